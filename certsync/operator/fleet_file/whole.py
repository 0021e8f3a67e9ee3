"""What a fleet file must contain, and what must fit together. Single values are already valid.

Each check takes the draft and yields the mistakes it finds. If a wrong value was left out, a check
that would only report it again yields nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from certsync.model.errors import Mistake
from certsync.model.fleet import DIRECTORIES, LETSENCRYPT_STAGING
from certsync.model.options import Provider, SiteKind
from certsync.operator.fleet_file import balancers
from certsync.operator.fleet_file.draft import Draft
from certsync.operator.fleet_file.hosts import is_ip_address
from certsync.operator.fleet_file.mistakes import dotted, from_rule
from certsync.operator.fleet_file.rules import UnfitError, machine_name, number_of_names, quoted

TERMS = "https://letsencrypt.org/repository/"
STAGING_ROOTS = "https://letsencrypt.org/docs/staging-environment/"

NEEDED = {
    "names": ("name", 'the names on the certificate: names = ["www.example.com"]'),
    "public_addresses": ("address", 'what DNS points to: public_addresses = ["203.0.113.10"]'),
    "balancers": ("machine", "add [balancers.NAME] with its address"),
    "backends": ("machine", "add [backends.NAME] with its address"),
}

MANAGED = (SiteKind.STATIC, SiteKind.PROXY)
USED_BY = {"root": (SiteKind.STATIC,), "upstream": (SiteKind.PROXY,)}
"""The kinds of site that use a key; other keys are for all managed sites."""


def check(draft: Draft) -> list[Mistake]:
    """Return the mistakes that involve several values, or missing ones."""
    return [mistake for rule in CHECKS for mistake in rule(draft)]


def _something_is_there(draft: Draft) -> Iterator[Mistake]:
    for key, (what, hint) in NEEDED.items():
        ours = draft.fleet.balancer.provider is Provider.HAPROXY
        if key == "balancers" and (not ours or draft.at_fault("balancer.provider")):
            continue
        if not draft.values.get(key) and not draft.at_fault_below(key):
            yield Mistake(key, f"needs at least one {what}", hint)


def _nothing_is_listed_twice(draft: Draft) -> Iterator[Mistake]:
    for place, values in _lists(draft.values):
        for value in dict.fromkeys(values):
            if values.count(value) > 1:
                yield Mistake(place, f"{quoted(value)} is listed twice", "keep one of them")


def _lists(table: dict[str, Any], *above: str) -> Iterator[tuple[str, list[str]]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lists(value, *above, key)
        elif isinstance(value, list):
            yield dotted(*above, key), value


def _names_fit_one_certificate(draft: Draft) -> Iterator[Mistake]:
    for place, _, lineage in draft.lineages:
        try:
            number_of_names(len(lineage.names), lineage.profile, draft.fleet.authority.directory)
        except UnfitError as error:
            yield from_rule(error, f"{place}names")


def _names_lead_to_one_lineage(draft: Draft) -> Iterator[Mistake]:
    owners: dict[str, str] = {}
    for above, _, lineage in draft.lineages:
        place = f"{above}names"
        if not lineage.names and above and not draft.at_fault_below(place):
            yield Mistake(place, "needs at least one name", NEEDED["names"][1])
        for name in dict.fromkeys(lineage.names):
            owner = owners.setdefault(name, place)
            if owner != place:
                yield Mistake(
                    place,
                    f"{quoted(name)} is also in {owner}",
                    "connections are routed by name: keep one of them",
                )


def _lineages_have_backends_of_the_fleet(draft: Draft) -> Iterator[Mistake]:
    fleet = draft.fleet
    backends = [each.name for each in fleet.backends]
    for place, _, lineage in draft.lineages:
        for each in dict.fromkeys(lineage.serving):
            if backends and each not in backends:
                hint = f"the backends are: {', '.join(backends)}"
                yield Mistake(f"{place}served_by", f"{quoted(each)} is not a backend", hint)
    if all(each.serving for each in fleet.lineages):
        busy = {fleet.issuer_name, *(name for each in fleet.lineages for name in each.serving)}
        for name in backends:
            if name not in busy:
                message = "serves nothing: no served_by lists it"
                hint = "add it to a served_by, or remove it"
                yield Mistake(dotted("backends", name), message, hint)


def _issuer_is_a_backend(draft: Draft) -> Iterator[Mistake]:
    name = draft.fleet.issuer_name
    names = [each.name for each in draft.fleet.backends]
    if names and name not in names:
        hint = f"the backends are: {', '.join(names)}"
        yield Mistake("issuer", f"{quoted(name)} is not a backend", hint)


def _terms_are_agreed_to(draft: Draft) -> Iterator[Mistake]:
    agreed = draft.values.get("ca", {}).get("agree_to_terms")
    if agreed or draft.at_fault("ca.agree_to_terms"):
        return
    known = draft.fleet.authority.directory in DIRECTORIES.values()
    yield Mistake(
        "ca.agree_to_terms",
        "must be true",
        f"read the CA's terms of service{f' ({TERMS})' if known else ''}"
        ", then set agree_to_terms = true",
    )


def _staging_has_roots(draft: Draft) -> Iterator[Mistake]:
    ca = draft.fleet.authority
    if ca.directory == LETSENCRYPT_STAGING and not ca.roots and not draft.at_fault("ca.roots"):
        yield Mistake(
            "ca.roots",
            "is missing, but no system trusts the staging CA",
            "download the staging roots from Let's Encrypt's page \"Staging Environment\""
            f" ({STAGING_ROOTS}) and name the file here",
        )


def _sites_have_what_their_kind_takes(draft: Draft) -> Iterator[Mistake]:
    for above, values, lineage in draft.lineages:
        place, site = f"{above}site", lineage.site
        if draft.at_fault(f"{place}.kind"):
            continue
        missing = not site.upstream and not draft.at_fault(f"{place}.upstream")
        if site.kind is SiteKind.PROXY and missing:
            hint = 'where the application listens on each backend: upstream = "127.0.0.1:3000"'
            yield Mistake(f"{place}.upstream", "is missing", hint)
        # Values inherited from the fleet's [site] are reported there.
        for key, value in values.get("site", {}).items():
            kinds = USED_BY.get(key, MANAGED)
            if key != "kind" and value and site.kind not in kinds:
                message = f"has no effect when kind is {quoted(site.kind.value)}"
                known = " or ".join(quoted(each.value) for each in kinds)
                yield Mistake(f"{place}.{key}", message, f"remove it, or set kind = {known}")


def _machines_can_be_reached(draft: Draft) -> Iterator[Mistake]:
    for place, machine in draft.machines:
        if not machine.address and not draft.at_fault(f"{place}.address"):
            hint = 'where SSH reaches it: address = "203.0.113.11"'
            yield Mistake(f"{place}.address", "is missing", hint)
        private = f"{place}.private_address"
        named = machine.private_address and not is_ip_address(machine.private_address)
        if named and not draft.at_fault(private):
            yield Mistake(
                private,
                "is missing, and is needed because the address is a name",
                "write the IP address at which the fleet's hosts reach it",
            )


def _addresses_are_a_machines_own(draft: Draft) -> Iterator[Mistake]:
    owners: dict[str, tuple[str, str]] = {}
    for address, place, at in draft.addresses:
        owner, first = owners.setdefault(address, (place, at))
        if owner != place:
            hint = "give every machine its own addresses"
            yield Mistake(at, f"{quoted(address)} is also {first}", hint)


def _machines_have_names_of_their_own(draft: Draft) -> Iterator[Mistake]:
    balancers = [each.name for each in draft.fleet.balancers]
    for place, machine in draft.machines:
        try:
            machine_name(machine.name)
        except UnfitError as error:
            yield from_rule(error, place)
        if place.startswith("backends.") and machine.name in balancers:
            yield Mistake(
                place, "is also the name of a balancer", "give every machine its own name"
            )


CHECKS = (
    _something_is_there,
    _nothing_is_listed_twice,
    _names_fit_one_certificate,
    _names_lead_to_one_lineage,
    _lineages_have_backends_of_the_fleet,
    _issuer_is_a_backend,
    _terms_are_agreed_to,
    _staging_has_roots,
    _sites_have_what_their_kind_takes,
    _machines_can_be_reached,
    _addresses_are_a_machines_own,
    _machines_have_names_of_their_own,
    *balancers.CHECKS,
)
"""In the order in which mistakes are reported."""

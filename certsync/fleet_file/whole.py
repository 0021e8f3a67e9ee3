"""What has to be in a fleet file, and what has to fit together. Single values are sound by now.

Each check takes the tables and yields the mistakes it sees. Where a value was at fault and left
out, a check that would only repeat this keeps silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from certsync import fleet
from certsync.errors import Mistake
from certsync.fleet_file.hosts import is_ip_address
from certsync.fleet_file.mistakes import from_rule
from certsync.fleet_file.rules import UnfitError, machine_name, quoted
from certsync.fleet_file.tables import Tables

MOST_NAMES = 100
"""Let's Encrypt signs no more on one certificate."""

TERMS = "https://letsencrypt.org/repository/"
STAGING_ROOTS = "https://letsencrypt.org/docs/staging-environment/"

NEEDED = {
    "names": ("name", 'what the certificate is for: names = ["www.example.com"]'),
    "public_addresses": ("address", 'what DNS shows: public_addresses = ["203.0.113.10"]'),
    "balancers": ("machine", "write [balancers.NAME] and its address"),
    "backends": ("machine", "write [backends.NAME] and its address"),
}


def check(tables: Tables) -> list[Mistake]:
    """Return the mistakes that no single value shows."""
    return [mistake for rule in CHECKS for mistake in rule(tables)]


def _something_is_there(tables: Tables) -> Iterator[Mistake]:
    for key, (what, hint) in NEEDED.items():
        if not getattr(tables.top, key) and not tables.at_fault_below(key):
            yield Mistake(key, f"needs at least one {what}", hint)


def _nothing_is_listed_twice(tables: Tables) -> Iterator[Mistake]:
    for place, values in (
        ("names", tables.top.names),
        ("public_addresses", tables.top.public_addresses),
        ("notify.events", tables.notify.events),
    ):
        for value in dict.fromkeys(values):
            if values.count(value) > 1:
                yield Mistake(place, f"{quoted(value)} is listed twice", "keep one of them")


def _names_fit_one_certificate(tables: Tables) -> Iterator[Mistake]:
    if len(tables.top.names) > MOST_NAMES:
        yield Mistake(
            "names",
            f"{len(tables.top.names)} names are too many for one certificate",
            f"a CA signs {MOST_NAMES} at most",
        )


def _issuer_is_a_backend(tables: Tables) -> Iterator[Mistake]:
    name = tables.top.issuer
    given = "issuer" in tables.top.model_fields_set
    if given and tables.backends and name not in tables.backends:
        names = ", ".join(tables.backends)
        yield Mistake("issuer", f"{quoted(name)} is no backend", f"write one of: {names}")


def _terms_are_agreed_to(tables: Tables) -> Iterator[Mistake]:
    if tables.ca.agree_to_terms or tables.at_fault("ca.agree_to_terms"):
        return
    known = tables.ca.directory in fleet.DIRECTORIES.values()
    yield Mistake(
        "ca.agree_to_terms",
        "must be true",
        f"read the CA's terms of service{f' ({TERMS})' if known else ''}"
        " and write agree_to_terms = true",
    )


def _staging_has_roots(tables: Tables) -> Iterator[Mistake]:
    staging = tables.ca.directory == fleet.LETSENCRYPT_STAGING
    if staging and not tables.ca.roots and not tables.at_fault("ca.roots"):
        yield Mistake(
            "ca.roots",
            "is missing, and no system trusts the staging CA",
            "fetch the staging roots named on Let's Encrypt's page \"Staging Environment\""
            f" ({STAGING_ROOTS}) and name the file here",
        )


def _site_has_what_its_kind_takes(tables: Tables) -> Iterator[Mistake]:
    if tables.at_fault("site.kind"):
        return
    site, kind = tables.site, fleet.SiteKind(tables.site.kind)
    missing = not site.upstream and not tables.at_fault("site.upstream")
    if kind is fleet.SiteKind.PROXY and missing:
        hint = 'where the application listens on each backend: upstream = "127.0.0.1:3000"'
        yield Mistake("site.upstream", "is missing", hint)
    if kind is not fleet.SiteKind.PROXY and site.upstream:
        yield _unused("site.upstream", kind, 'write kind = "proxy"')
    if kind is not fleet.SiteKind.STATIC and "root" in site.model_fields_set:
        yield _unused("site.root", kind, 'write kind = "static"')
    if kind is fleet.SiteKind.UNMANAGED and site.test_page:
        yield _unused("site.test_page", kind, 'write kind = "static" or "proxy"')


def _unused(place: str, kind: fleet.SiteKind, instead: str) -> Mistake:
    return Mistake(
        place, f"has no use when kind is {quoted(kind.value)}", f"remove it, or {instead}"
    )


def _machines_can_be_reached(tables: Tables) -> Iterator[Mistake]:
    for place, _, machine in tables.machines:
        if not machine.address and not tables.at_fault(f"{place}.address"):
            hint = 'where SSH reaches it: address = "203.0.113.11"'
            yield Mistake(f"{place}.address", "is missing", hint)
        named = machine.address and not is_ip_address(machine.address)
        private = f"{place}.private_address"
        if named and not machine.private_address and not tables.at_fault(private):
            yield Mistake(
                private,
                "is missing, and the address is a name",
                "the IP address by which the fleet's own hosts reach it",
            )


def _addresses_are_a_machines_own(tables: Tables) -> Iterator[Mistake]:
    owners: dict[str, tuple[str, str]] = {}
    for place, _, machine in tables.machines:
        for key in ("address", "private_address"):
            value = getattr(machine, key)
            owner, first = owners.setdefault(value, (place, f"{place}.{key}"))
            if value and owner != place:
                yield Mistake(
                    f"{place}.{key}",
                    f"{quoted(value)} is {first} too",
                    "give every machine addresses of its own",
                )


def _machines_have_names_of_their_own(tables: Tables) -> Iterator[Mistake]:
    for place, name, _ in tables.machines:
        try:
            machine_name(name)
        except UnfitError as error:
            yield from_rule(error, place)
        if place.startswith("backends.") and name in tables.balancers:
            yield Mistake(
                place, "is the name of a balancer too", "give every machine a name of its own"
            )


CHECKS = (
    _something_is_there,
    _nothing_is_listed_twice,
    _names_fit_one_certificate,
    _issuer_is_a_backend,
    _terms_are_agreed_to,
    _staging_has_roots,
    _site_has_what_its_kind_takes,
    _machines_can_be_reached,
    _addresses_are_a_machines_own,
    _machines_have_names_of_their_own,
)
"""In the order in which a person reads of them."""

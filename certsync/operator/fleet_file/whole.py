"""What has to be in a fleet file, and what has to fit together. Single values are sound by now.

Each check takes the tables and yields the mistakes it sees. Where a value was at fault and left
out, a check that would only repeat this keeps silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from certsync.model import fleet, options
from certsync.model.errors import Mistake
from certsync.operator.fleet_file.hosts import is_ip_address
from certsync.operator.fleet_file.mistakes import dotted, from_rule
from certsync.operator.fleet_file.rules import UnfitError, machine_name, quoted
from certsync.operator.fleet_file.schema import SiteTable
from certsync.operator.fleet_file.tables import Tables

MOST_NAMES = 100
"""Let's Encrypt signs at most this many on one certificate."""

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
        if key == "balancers" and _is_not_ours(tables):
            continue
        if not getattr(tables.top, key) and not tables.at_fault_below(key):
            yield Mistake(key, f"needs at least one {what}", hint)


def _nothing_is_listed_twice(tables: Tables) -> Iterator[Mistake]:
    for place, values in (
        ("names", tables.top.names),
        ("public_addresses", tables.top.public_addresses),
        ("balancer.virtual_addresses", tables.balancer.virtual_addresses),
        ("balancer.networks", tables.balancer.networks),
        ("notify.events", tables.notify.events),
    ):
        for value in dict.fromkeys(values):
            if values.count(value) > 1:
                yield Mistake(place, f"{quoted(value)} is listed twice", "keep one of them")


def _names_fit_one_certificate(tables: Tables) -> Iterator[Mistake]:
    for place, names in _names(tables):
        if len(names) > MOST_NAMES:
            yield Mistake(
                place,
                f"{len(names)} names are too many for one certificate",
                f"a CA signs {MOST_NAMES} at most",
            )


def _names(tables: Tables) -> Iterator[tuple[str, list[str]]]:
    for place, each in tables.lineages.items():
        yield f"{place}names", each.own.names


def _names_lead_to_one_lineage(tables: Tables) -> Iterator[Mistake]:
    owners: dict[str, str] = {}
    for place, names in _names(tables):
        if not names and place != "names" and not tables.at_fault_below(place):
            yield Mistake(place, "needs at least one name", NEEDED["names"][1])
        for name in dict.fromkeys(names):
            owner = owners.setdefault(name, place)
            if owner != place:
                yield Mistake(
                    place,
                    f"{quoted(name)} is on {owner} too",
                    "a connection is told by its name where it goes: keep one of them",
                )


def _lineages_have_backends_of_the_fleet(tables: Tables) -> Iterator[Mistake]:
    lineages = tables.lineages.items()
    serving = {f"{place}served_by": each.own.served_by for place, each in lineages}
    for place, names in serving.items():
        for each in dict.fromkeys(names):
            if tables.backends and each not in tables.backends:
                known = ", ".join(tables.backends)
                yield Mistake(place, f"{quoted(each)} is no backend", f"write some of: {known}")
            if names.count(each) > 1:
                yield Mistake(place, f"{quoted(each)} is listed twice", "keep one of them")
    if all(serving.values()):
        busy = {each for names in serving.values() for each in names}
        for name in tables.backends:
            if name not in busy and name != _issuer(tables):
                yield Mistake(
                    dotted("backends", name),
                    "serves nothing: every served_by leaves it out",
                    "name it in one of them, or remove it",
                )


def _issuer(tables: Tables) -> str:
    return tables.top.issuer or next(iter(tables.backends), "")


def _is_not_ours(tables: Tables) -> bool:
    return tables.balancer.provider == options.Provider.NONE.value


def _balancer_is_ours_or_not(tables: Tables) -> Iterator[Mistake]:
    table, ours = tables.balancer, not _is_not_ours(tables)
    if tables.at_fault_below("balancer"):
        return
    if not ours and tables.top.balancers:
        yield Mistake(
            "balancers",
            'has no use when balancer.provider is "none"',
            'remove them, or write provider = "haproxy"',
        )
    if ours and table.networks:
        yield Mistake(
            "balancer.networks",
            'has no use when balancer.provider is "haproxy"',
            "remove it: the balancers' own addresses are known",
        )
    if not ours and table.virtual_addresses:
        yield Mistake(
            "balancer.virtual_addresses",
            'has no use when balancer.provider is "none"',
            "remove it: DNS shows public_addresses",
        )
    if ours and table.virtual_addresses and len(tables.balancers) == 1:
        yield Mistake(
            "balancer.virtual_addresses",
            "needs a second balancer, for the addresses to move to",
            "write another [balancers.NAME], or remove it",
        )
    if not ours and tables.balancing.proxy_protocol and not table.networks:
        yield Mistake(
            "balancer.networks",
            "is missing: from where the balancer's PROXY protocol comes",
            'networks = ["10.0.0.0/24"], or proxy_protocol = false under [balancing]',
        )


def _virtual_addresses_are_nobodys_own(tables: Tables) -> Iterator[Mistake]:
    own = {
        value: f"{place}.{key}"
        for place, _, machine in tables.machines
        for key in ("address", "private_address")
        if (value := getattr(machine, key))
    }
    for address in tables.balancer.virtual_addresses:
        if address in own:
            yield Mistake(
                "balancer.virtual_addresses",
                f"{quoted(address)} is {own[address]} too",
                "it moves from balancer to balancer: take one that no machine has",
            )


def _balancers_can_share_addresses(tables: Tables) -> Iterator[Mistake]:
    """VRRP is spoken in one family, and names addresses of that one."""
    addresses = [each.private_address or each.address for each in tables.balancers.values()]
    known = [each for each in addresses if is_ip_address(each)]
    virtual = tables.balancer.virtual_addresses
    if not virtual or not known or tables.at_fault_below("balancers"):
        return
    if len({":" in each for each in known}) > 1:
        yield Mistake(
            "balancer.virtual_addresses",
            "needs balancers whose private addresses are of one family",
            "give them IPv4 addresses all, or IPv6",
        )
    elif all((":" in each) != (":" in known[0]) for each in virtual):
        family = "IPv6" if ":" in known[0] else "IPv4"
        yield Mistake(
            "balancer.virtual_addresses",
            f"has no {family} address, and the balancers speak {family} with each other",
            f"list an {family} address too, or give the balancers other private addresses",
        )


def _proxy_port_is_free(tables: Tables) -> Iterator[Mistake]:
    port = tables.balancing.proxy_port
    if tables.at_fault("balancing.proxy_port"):
        return
    taken = {80: "plain HTTP", 443: "TLS without it"}
    taken |= {each.ssh_port or tables.ssh.port: "SSH" for each in tables.backends.values()}
    sites = [each.site for each in tables.lineages.values()]
    taken |= {int(each.upstream.rpartition(":")[2]): "upstream" for each in sites if each.upstream}
    if port in taken:
        yield Mistake(
            "balancing.proxy_port", f"{port} is the port of {taken[port]}", "8443 unless named"
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


def _sites_have_what_their_kind_takes(tables: Tables) -> Iterator[Mistake]:
    for place, each in tables.lineages.items():
        yield from _site_has_what_its_kind_takes(tables, f"{place}site", each.site)


def _site_has_what_its_kind_takes(tables: Tables, place: str, site: SiteTable) -> Iterator[Mistake]:
    if tables.at_fault(f"{place}.kind"):
        return
    kind = options.SiteKind(site.kind)
    missing = not site.upstream and not tables.at_fault(f"{place}.upstream")
    if kind is options.SiteKind.PROXY and missing:
        hint = 'where the application listens on each backend: upstream = "127.0.0.1:3000"'
        yield Mistake(f"{place}.upstream", "is missing", hint)
    if kind is not options.SiteKind.PROXY and site.upstream:
        yield _unused(f"{place}.upstream", kind, 'write kind = "proxy"')
    if kind is not options.SiteKind.STATIC and "root" in site.model_fields_set:
        yield _unused(f"{place}.root", kind, 'write kind = "static"')
    if kind is options.SiteKind.UNMANAGED:
        for key in ("test_page", "redirect", "hsts_seconds"):
            if getattr(site, key):
                yield _unused(f"{place}.{key}", kind, 'write kind = "static" or "proxy"')


def _unused(place: str, kind: options.SiteKind, instead: str) -> Mistake:
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
    _names_lead_to_one_lineage,
    _lineages_have_backends_of_the_fleet,
    _issuer_is_a_backend,
    _terms_are_agreed_to,
    _staging_has_roots,
    _sites_have_what_their_kind_takes,
    _machines_can_be_reached,
    _addresses_are_a_machines_own,
    _machines_have_names_of_their_own,
    _balancer_is_ours_or_not,
    _virtual_addresses_are_nobodys_own,
    _balancers_can_share_addresses,
    _proxy_port_is_free,
)
"""In the order in which a person reads of them."""

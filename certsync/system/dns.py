"""Check that names resolve to the fleet. Only `look_up` does I/O: it asks the system's resolver."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certsync.model.fleet import Fleet
from certsync.system import parallel
from certsync.system.deadline import within

SECONDS = 15
"""How long a lookup may take: long enough for the timeout of a resolver's first server."""

NO_RECORDS = (socket.EAI_NONAME, socket.EAI_NODATA)
"""getaddrinfo(3)'s errors about the name. All others, such as EAI_AGAIN (no answer, SERVFAIL,
broken DNSSEC), are about the lookup."""

INSIDE = [
    ipaddress.ip_network(each)
    for each in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "fc00::/7", "fe80::/10",
    )
]  # fmt: skip
"""Addresses that are only valid inside a network (RFC 1918, 6598, 3927, 4193, 4291)."""

NO_PROXY = (
    "if these are a CDN's or another proxy's addresses, switch it off for the name: it would end "
    "TLS itself"
)
DNS64 = ipaddress.ip_network("64:ff9b::/96")


def resolved(host: str, port: int | None, seconds: float = SECONDS) -> list[tuple[Any, ...]]:
    """Return what getaddrinfo(3) finds for TCP, with a time limit, which it lacks.

    Raises:
        TimeoutError: it takes longer.
        OSError, ValueError: it finds nothing.
    """
    return within(seconds, lambda: list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


@dataclass(frozen=True)
class DnsFinding:
    """A name whose records do not match the fleet's addresses."""

    name: str
    message: str
    stops: bool
    """Whether a CA that follows the records would reach another host."""

    unknown: bool = False
    """Whether the lookup failed, so that nothing is known about the records."""

    elsewhere: bool = False
    """Whether the name has records that point to other hosts."""


@dataclass(frozen=True)
class Found:
    """The result of a lookup."""

    addresses: tuple[str, ...] = ()
    """IPv4 and IPv6; none: the name has no such record."""

    failure: str = ""
    """Why the lookup failed; empty: it did not."""


def look_up(name: str) -> Found:
    """Return the addresses that a name resolves to on this machine."""
    try:
        found = resolved(name, None)
    except socket.gaierror as error:
        failure = "" if error.errno in NO_RECORDS else error.strerror or str(error)
        return Found(failure=failure)
    except (OSError, ValueError) as error:
        return Found(failure=str(error))
    return Found(tuple(sorted({str(entry[4][0]) for entry in found})))


def look_up_all(names: Sequence[str]) -> dict[str, Found]:
    """Return what each name resolves to."""
    return dict(zip(names, parallel.each(look_up, names), strict=True))


def findings(fleet: Fleet, names: Sequence[str], answers: Mapping[str, Found]) -> list[DnsFinding]:
    """Return what is wrong with the names' records; ``answers`` has a lookup for each."""
    return [finding for name in names for finding in _of_name(fleet, name, answers[name])]


def _of_name(fleet: Fleet, name: str, looked: Found) -> list[DnsFinding]:
    if looked.failure:
        text = f"the DNS lookup of {name} failed: {looked.failure}"
        return [DnsFinding(name, text, stops=False, unknown=True)]
    found = looked.addresses
    if not found:
        return [DnsFinding(name, f"{name} has no A or AAAA record", stops=True)]
    public = {_plain(address) for address in fleet.public_addresses}
    elsewhere = [address for address in found if _plain(address) not in public]
    if elsewhere and all(_is_seen_from_inside(fleet, address) for address in elsewhere):
        text = (
            f"{name} resolves to {', '.join(elsewhere)} on this machine, because of its /etc/hosts "
            "or a local resolver; a CA sees other records"
        )
        return [DnsFinding(name, text, stops=False)]
    if elsewhere:
        text = f"{name} resolves to {', '.join(elsewhere)}, {_whose(fleet, elsewhere)}"
        return [DnsFinding(name, text, stops=True, elsewhere=True)]
    missing = sorted(public - {_plain(address) for address in found})
    return [
        DnsFinding(name, f"{name} has no {record_type(address)} record {address}", stops=False)
        for address in missing
    ]


def _is_seen_from_inside(fleet: Fleet, address: str) -> bool:
    """Return whether an address is this machine itself, or a fleet host's internal address."""
    place = _unwrapped(address)
    own = {each for host in fleet.machines for each in (host.address, host.private_address)}
    return place.is_loopback or (str(place) in own and any(place in each for each in INSIDE))


def _whose(fleet: Fleet, addresses: list[str]) -> str:
    found = {_plain(address) for address in addresses}
    for host in fleet.backends:
        if {host.address, host.private_address} & found:
            return f"which is {host.name}: it must point to the balancer"
    return "which is not a public address of the fleet"


def record_type(address: str) -> str:
    """Return `A` or `AAAA`."""
    return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"


def records(fleet: Fleet, names: Sequence[str]) -> list[str]:
    """Return the records to set, one per line, as in a zone file."""
    return [
        f"{name}. {record_type(address)} {address}"
        for name in names
        for address in fleet.public_addresses
    ]


def to_set(fleet: Fleet, names: Sequence[str], wrong: Sequence[DnsFinding]) -> str:
    """Return what to do about names whose records are wrong."""
    hint = f"set: {'; '.join(records(fleet, names))}"
    return f"{hint}; {NO_PROXY}" if any(each.elsewhere for each in wrong) else hint


def _plain(address: str) -> str:
    return str(_unwrapped(address))


def _unwrapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address, or the IPv4 address that a resolver has mapped to IPv6.

    IPv4-mapped (RFC 4291 section 2.5.5.2), or DNS64's well-known prefix (RFC 6052 section 2.1).
    """
    place = ipaddress.ip_address(address)
    if place.version == 4:
        return place
    return (
        ipaddress.IPv4Address(place.packed[-4:]) if place in DNS64 else place.ipv4_mapped or place
    )

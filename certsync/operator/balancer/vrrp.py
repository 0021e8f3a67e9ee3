"""Balancers that share addresses by VRRP (RFC 5798): their numbers, and who holds what. Pure."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine

HIGHEST = 250
"""Of the priorities that a machine may have that does not own the address, 254 is the last."""

APART = 40
"""Between two balancers: 0.08 s, with half a second between messages (RFC 5798 section 6.1)."""

IDENTIFIERS = 255


def identifier(addresses: Sequence[str]) -> int:
    """Return the number of a virtual router, 1 to 255: the same wherever these addresses are.

    Two fleets in one network may come to have the same one. Their balancers speak to their own
    peers alone, so neither hears of the other.
    """
    return 1 + zlib.crc32(" ".join(sorted(addresses)).encode()) % IDENTIFIERS


def priority(fleet: Fleet, machine: Machine) -> int:
    """Return a balancer's priority: by the order of the fleet file, apart from each other.

    The lower it is, the longer a balancer waits before it takes over: two that wait equally long
    would both do so.
    """
    step = min(APART, HIGHEST // len(fleet.balancers))
    return HIGHEST - step * fleet.balancers.index(machine)


def peers(fleet: Fleet, machine: Machine) -> tuple[Machine, ...]:
    """Return the other balancers."""
    return tuple(each for each in fleet.balancers if each != machine)


def with_prefix(address: str) -> str:
    """Return an address as one that is no network: what else a machine has there stays as it is."""
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def advertised(fleet: Fleet, machine: Machine) -> tuple[str, ...]:
    """Return the virtual addresses that VRRP's own messages can name: of the same family."""
    return tuple(each for each in fleet.balancer.virtual_addresses if _same_family(each, machine))


def carried_along(fleet: Fleet, machine: Machine) -> tuple[str, ...]:
    """Return the other virtual addresses, which move together with those."""
    named = advertised(fleet, machine)
    return tuple(each for each in fleet.balancer.virtual_addresses if each not in named)


def _same_family(address: str, machine: Machine) -> bool:
    one, other = ipaddress.ip_address(address), ipaddress.ip_address(machine.private_address)
    return one.version == other.version


def holders(fleet: Fleet, seen: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return who has each virtual address; ``seen`` are all addresses by the balancer's name."""
    return {
        address: [name for name, addresses in seen.items() if address in addresses]
        for address in fleet.balancer.virtual_addresses
    }


def note(held: Mapping[str, Sequence[str]]) -> str:
    """Return the line that says where the virtual addresses are; empty: there are none."""
    places: dict[str, list[str]] = {}
    for address, names in held.items():
        places.setdefault(" and ".join(names) or "nobody", []).append(address)
    told = [f"{', '.join(each)} on {where}" for where, each in places.items()]
    return f"virtual addresses: {'; '.join(told)}" if told else ""


def findings(held: Mapping[str, Sequence[str]], unasked: Sequence[str]) -> list[Finding]:
    """Return which virtual addresses are nobody's, or more than one's; and which are apart.

    ``unasked`` are the balancers that could not be asked: one of them may have what the others
    do not.
    """
    found = []
    for address, names in held.items():
        if len(names) > 1:
            found.append(Finding(address, f"{' and '.join(names)} hold it at the same time"))
        elif not names and not unasked:
            found.append(Finding(address, "no balancer holds it"))
    return found

"""Balancers that share addresses by VRRP (RFC 5798): priorities, and who holds what. Pure."""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine

HIGHEST = 250
"""A machine that does not own the address may have up to 254."""

APART = 40
"""The gap between two balancers: 0.08 s, with two messages a second (RFC 5798 section 6.1)."""

IDENTIFIERS = 255


def identifier(addresses: Sequence[str]) -> int:
    """Return the virtual router's id, 1 to 255, computed from its addresses.

    Two fleets in one network may get the same id. That is harmless, because their balancers use
    unicast to their own peers.
    """
    return 1 + zlib.crc32(" ".join(sorted(addresses)).encode()) % IDENTIFIERS


def priority(fleet: Fleet, machine: Machine) -> int:
    """Return a balancer's priority, by the order in the fleet file.

    The lower it is, the longer a balancer waits before it takes over. The priorities are spaced so
    that no two balancers take over at once.
    """
    step = min(APART, HIGHEST // len(fleet.balancers))
    return HIGHEST - step * fleet.balancers.index(machine)


def peers(fleet: Fleet, machine: Machine) -> tuple[Machine, ...]:
    """Return the other balancers."""
    return tuple(each for each in fleet.balancers if each != machine)


def with_prefix(address: str) -> str:
    """Return an address with a host prefix (/32 or /128), which leaves other routes alone."""
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def advertised(fleet: Fleet, machine: Machine) -> tuple[str, ...]:
    """Return the virtual addresses that VRRP messages can carry: those of the same family."""
    return tuple(each for each in fleet.balancer.virtual_addresses if _same_family(each, machine))


def carried_along(fleet: Fleet, machine: Machine) -> tuple[str, ...]:
    """Return the other virtual addresses, which move with the advertised ones."""
    named = advertised(fleet, machine)
    return tuple(each for each in fleet.balancer.virtual_addresses if each not in named)


def _same_family(address: str, machine: Machine) -> bool:
    one, other = ipaddress.ip_address(address), ipaddress.ip_address(machine.private_address)
    return one.version == other.version


def holders(fleet: Fleet, seen: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the balancers with each virtual address; ``seen`` are all addresses by balancer."""
    return {
        address: [name for name, addresses in seen.items() if address in addresses]
        for address in fleet.balancer.virtual_addresses
    }


def note(held: Mapping[str, Sequence[str]]) -> str:
    """Return the line that says where the virtual addresses are; empty: there are none."""
    places: dict[str, list[str]] = {}
    for address, names in held.items():
        places.setdefault(" and ".join(names) or "no balancer", []).append(address)
    parts = [f"{', '.join(each)} on {where}" for where, each in places.items()]
    return f"virtual addresses: {'; '.join(parts)}" if parts else ""


def findings(held: Mapping[str, Sequence[str]], unasked: Sequence[str]) -> list[Finding]:
    """Return the virtual addresses that no balancer has, or several have.

    ``unasked`` are the balancers that could not be asked: one of them may have a missing address.
    """
    found = []
    for address, names in held.items():
        if len(names) > 1:
            found.append(Finding(address, f"{' and '.join(names)} have it at the same time"))
        elif not names and not unasked:
            found.append(Finding(address, "no balancer has it"))
    return found

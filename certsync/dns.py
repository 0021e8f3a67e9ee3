"""Do the names lead to the fleet? The comparison is pure; `look_up` asks the system's resolver."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certsync.deadline import within
from certsync.fleet import Fleet

SECONDS = 15
"""How long a look-up may take: a resolver's first server that is off has its pause in it."""


def resolved(host: str, port: int | None, seconds: float = SECONDS) -> list[tuple[Any, ...]]:
    """Return what getaddrinfo(3) finds for TCP, which has no limit of its own.

    Raises:
        TimeoutError: it takes longer.
        OSError, ValueError: it finds nothing.
    """
    return within(seconds, lambda: list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


@dataclass(frozen=True)
class DnsFinding:
    """A name whose records are not the fleet's."""

    name: str
    message: str
    stops: bool
    """Whether a CA that follows the records would end up elsewhere."""


def look_up(name: str) -> tuple[str, ...]:
    """Return the addresses, v4 and v6, that a name leads to; none if it does not exist."""
    try:
        found = resolved(name, None)
    except OSError:
        return ()
    return tuple(sorted({str(entry[4][0]) for entry in found}))


def findings(fleet: Fleet, answers: Mapping[str, tuple[str, ...]]) -> list[DnsFinding]:
    """Return what is wrong with the names' records; ``answers`` maps name to addresses."""
    return [finding for name in fleet.names for finding in _of_name(fleet, name, answers[name])]


def _of_name(fleet: Fleet, name: str, found: tuple[str, ...]) -> list[DnsFinding]:
    if not found:
        return [DnsFinding(name, f"{name} has no A or AAAA record", stops=True)]
    public = {_plain(address) for address in fleet.public_addresses}
    strange = [address for address in found if _plain(address) not in public]
    if strange:
        text = f"{name} leads to {', '.join(strange)}, {_whose(fleet, strange)}"
        return [DnsFinding(name, text, stops=True)]
    missing = sorted(public - {_plain(address) for address in found})
    return [
        DnsFinding(name, f"{name} has no {record_type(address)} record {address}", stops=False)
        for address in missing
    ]


def _whose(fleet: Fleet, addresses: list[str]) -> str:
    for host in fleet.backends:
        if {host.address, host.private_address} & set(addresses):
            return f"which is {host.name}: it must lead to the balancer"
    return "which is not a public address of the fleet"


def record_type(address: str) -> str:
    """Return `A` or `AAAA`."""
    return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"


def records(fleet: Fleet) -> list[str]:
    """Return the records to set, one a line, as a zone file has them."""
    return [
        f"{name}. {record_type(address)} {address}"
        for name in fleet.names
        for address in fleet.public_addresses
    ]


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address))

"""Which issuer of which fleet: a number that every promotion raises. Pure.

The issuer has it in its marker; each replica keeps it beside the push key that it accepts. A
machine that was the issuer once, and has an older epoch, was replaced while it was off, or was
restored from a backup or snapshot made before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from certsync.programs import receiver


@dataclass(frozen=True)
class Epoch:
    """One issuer's time in office."""

    number: int
    """From 1; each promotion takes the next one."""

    fleet: str
    """32 hex digits, the same for all machines of a fleet."""

    def __str__(self) -> str:
        return f"epoch {self.number} of {self.fleet}"

    def ends(self, other: Epoch) -> bool:
        """Return whether an issuer of ``other`` is no longer the one that is accepted."""
        return self.fleet != other.fleet or self.number > other.number


def in_text(text: str) -> Epoch | None:
    """Return the epoch in a marker, an authorized_keys or an answer; None: it has none."""
    found = receiver.EPOCH.search(text)
    return Epoch(int(found[1]), found[2]) if found else None


def fleet_of(machine: str, name: str) -> str:
    """Return a new fleet's identity, from its first issuer's `Identity.machine` and its name.

    It is the same each time, so a dry run shows what the deploy writes.
    """
    return hashlib.sha256(f"{machine} {name}".encode()).hexdigest()[:32]


def current(
    issuer: Epoch | None, others: Iterable[Epoch], new_fleet: str, *, promoting: bool
) -> Epoch:
    """Return the epoch of the issuer in this run.

    ``issuer`` is what its marker says now. ``others`` are those that the other machines accept, or
    have as the previous issuer. ``promoting``: it has to be later than all issuers before it.
    """
    known = list(others)
    fleets = [each.fleet for each in ([issuer] if issuer else known)]
    fleet = max(sorted(set(fleets)), key=fleets.count, default=new_fleet)
    latest = max((each.number for each in known if each.fleet == fleet), default=0)
    if issuer is not None and (issuer.number >= latest or not promoting):
        return issuer
    return Epoch(latest + 1, fleet)

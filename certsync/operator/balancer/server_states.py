"""What HAProxy says of its members' administrative states: who is drained, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from certsync.model.fleet import Fleet
from certsync.operator.balancer.gate import FIRST, UNVERIFIED, Gate, pool_name

FORCED_DRAIN = 0x08
"""In a server's administrative state (HAProxy's management guide, `show servers state`)."""


def pools_with(member: str, states: Iterable[str]) -> list[str]:
    """Return what HAProxy calls the pools that have a member of this name.

    ``states`` are the lines of HAProxy's `show servers state`.
    """
    return [pool for pool, name, _ in _states(states) if name == member]


def drained(fleet: Fleet, has: Gate, states: Iterable[str]) -> list[str]:
    """Return the admitted members, as POOL/NAME, that a removal which was given up has drained.

    ``has`` is what the balancer's configuration says, ``states`` are as above. Nothing sets them
    ready again by itself: the state is kept over a reload.
    """
    pools = {pool_name(fleet, lineage): pool for lineage, pool in has.pools_of(fleet).items()}
    return [
        f"{pool}/{name}"
        for pool, name, state in _states(states)
        if state & FORCED_DRAIN
        and pools.get(pool.replace(UNVERIFIED, FIRST, 1), has.web).get(name, False)
    ]


def _states(lines: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Give the pool, the name and the administrative state of each member."""
    for line in lines:
        # Pool's number and name, member's number and name, its address, what it does, what it may.
        words = line.split()
        if len(words) > 6 and words[6].isdigit():
            yield words[1], words[3], int(words[6])

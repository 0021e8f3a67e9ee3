"""The administrative states of HAProxy's members: which are drained, in which pool. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from certsync.model.fleet import Fleet
from certsync.operator.balancer.gate import FIRST, UNVERIFIED, Gate, pool_name

FORCED_DRAIN = 0x08
"""A bit of a server's administrative state (HAProxy's management guide, `show servers state`)."""


def pools_with(member: str, states: Iterable[str]) -> list[str]:
    """Return the HAProxy names of the pools that have this member.

    ``states`` are the lines of HAProxy's `show servers state`.
    """
    return [pool for pool, name, _ in _states(states) if name == member]


def drained(fleet: Fleet, has: Gate, states: Iterable[str]) -> list[str]:
    """Return the admitted members, as POOL/NAME, left drained by an abandoned removal.

    ``has`` is the gate in the balancer's configuration, ``states`` are as above. HAProxy keeps the
    state over a reload, so a deploy has to set them ready again.
    """
    pools = {pool_name(fleet, lineage): pool for lineage, pool in has.pools_of(fleet).items()}
    return [
        f"{pool}/{name}"
        for pool, name, state in _states(states)
        if state & FORCED_DRAIN
        and pools.get(pool.replace(UNVERIFIED, FIRST, 1), has.web).get(name, False)
    ]


def _states(lines: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Yield pool, name and administrative state of each member."""
    for line in lines:
        # Pool id and name, server id and name, address, operational state, administrative state.
        words = line.split()
        if len(words) > 6 and words[6].isdigit():
            yield words[1], words[3], int(words[6])

"""The minute and second at which a fleet's renewal runs start, the same after each deploy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from certsync.model.fleet import Fleet


@dataclass(frozen=True)
class Moment:
    """A time within every hour, or within some hours."""

    minute: int
    """1 to 58: never on the hour, when CAs are busiest."""

    second: int
    """0 to 59."""

    hours: str
    """In the form that crontab(5) and systemd.time(7) share: `*`, or `1,5,9,13,17,21`."""


def moment_of(fleet: Fleet) -> Moment:
    """Return a fleet's start time, derived from its names and issuer to spread fleets evenly."""
    names = fleet.lineages[0].names
    seed = " ".join([*names, *fleet.public_addresses, fleet.issuer.private_address])
    digest = hashlib.sha256(seed.encode()).digest()
    every = fleet.renewal.every_hours
    hours = ",".join(str(hour) for hour in range(digest[2] % every, 24, every))
    return Moment(1 + digest[0] % 58, digest[1] % 60, "*" if every == 1 else hours)

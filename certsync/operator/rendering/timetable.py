"""At which minute and second a fleet's renewal runs start: its own, and the same at each deploy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from certsync.model.fleet import Fleet


@dataclass(frozen=True)
class Moment:
    """A moment of every hour, or of some hours."""

    minute: int
    """1 to 58: never where all clocks strike."""

    second: int
    """0 to 59."""

    hours: str
    """As crontab(5) and systemd.time(7) both write it: `*`, or `1,5,9,13,17,21`."""


def moment_of(fleet: Fleet) -> Moment:
    """Return the moment of a fleet, spread evenly over all fleets by its names and issuer."""
    names = fleet.lineages[0].names
    seed = " ".join([*names, *fleet.public_addresses, fleet.issuer.private_address])
    digest = hashlib.sha256(seed.encode()).digest()
    every = fleet.renewal.every_hours
    hours = ",".join(str(hour) for hour in range(digest[2] % every, 24, every))
    return Moment(1 + digest[0] % 58, digest[1] % 60, "*" if every == 1 else hours)

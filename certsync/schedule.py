"""When a certificate has to be ordered. Pure: the time is always an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certsync.fleet import Fleet
from certsync.generation import Manifest

SHORT_LIVED = timedelta(days=10)
"""Below this lifetime half of it, not a third, is left when a renewal is due."""


@dataclass(frozen=True)
class Due:
    """A reason to order a certificate now."""

    why: str
    first: bool
    """Whether no certificate of this CA for these names is there to go on serving."""


def renewal_moment(not_before: datetime, not_after: datetime) -> datetime:
    """Return when a certificate becomes due: a third of its lifetime left, half of a short one.

    Never a fixed number of days: lifetimes go from 90 days to 6 (Let's Encrypt's integration
    guide).
    """
    lifetime = not_after - not_before
    left = lifetime / 2 if lifetime < SHORT_LIVED else lifetime / 3
    return not_after - left


def issuance_due(newest: Manifest | None, fleet: Fleet, now: datetime) -> Due | None:
    """Return why an order is needed, or None: a valid certificate for the same names is there."""
    if newest is None:
        return Due("no certificate yet", first=True)
    if newest.directory != fleet.authority.directory:
        return Due(f"it was signed by {newest.directory}", first=True)
    if newest.names != tuple(sorted(fleet.names)):
        return Due(f"it is for {', '.join(newest.names)}", first=True)
    if newest.key_type != fleet.key_type.value:
        return Due(f"its key is {newest.key_type}", first=False)
    if now >= newest.not_after:
        return Due(f"it expired on {newest.not_after:%Y-%m-%d %H:%M} UTC", first=False)
    if now >= renewal_moment(newest.not_before, newest.not_after):
        return Due(f"it expires on {newest.not_after:%Y-%m-%d %H:%M} UTC", first=False)
    return None

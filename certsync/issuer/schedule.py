"""When to order a certificate. Pure: the time is always an argument."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.model.fleet import Fleet, Lineage
from certsync.model.generation import Manifest

SHORT_LIVED = timedelta(days=10)
"""Below this lifetime, a renewal is due when half of it is left, not a third."""

EARLY = timedelta(days=1)
"""A certificate younger than this, or than a tenth of its lifetime, is renewed at the CA's
suggestion only once a day: a CA may want every new one replaced."""

LATEST = 10
"""No suggestion delays a renewal until less than a tenth of the lifetime is left."""


@dataclass(frozen=True)
class Due:
    """A reason to order a certificate now."""

    why: str
    first: bool
    """Whether there is no certificate from this CA for these names to keep serving."""

    since: datetime | None = None
    """When a renewal became due by time; None: waiting would not let anything expire."""


@dataclass(frozen=True)
class NextRenewal:
    """When a certificate will be renewed, and why."""

    moment: datetime
    why: str


@dataclass(frozen=True)
class Withdrawal:
    """The rollback of a newer generation, and what that one was for."""

    at: datetime
    newest: Manifest | None
    """The newest withdrawn generation; None: it is gone or damaged."""


def renewal_moment(not_before: datetime, not_after: datetime) -> datetime:
    """Return when a renewal is due: with a third of the lifetime left, or half of a short one.

    Never a fixed number of days: lifetimes range from 90 days to 6 (Let's Encrypt's integration
    guide).
    """
    lifetime = not_after - not_before
    left = lifetime / 2 if lifetime < SHORT_LIVED else lifetime / 3
    return not_after - left


def renewal(
    newest: Manifest,
    info: RenewalInfo | None,
    every: timedelta,
    now: datetime,
    withdrawal: Withdrawal | None = None,
    renewed_early_at: datetime | None = None,
) -> NextRenewal:
    """Return when to renew the newest generation.

    ``every`` is the time between two runs, ``withdrawal`` that of a newer generation, and
    ``renewed_early_at`` when a young certificate was last renewed at the CA's suggestion.
    """
    chosen = _suggested(newest, info, every, now) or _by_lifetime(newest)
    if renewed_early_at is not None and timedelta(0) <= now - renewed_early_at < EARLY:
        chosen = replace(chosen, moment=max(chosen.moment, young_until(newest)))
    if withdrawal is None or (info and is_wanted_at_once(newest, info, now)):
        return chosen
    # Renewing at once would bring back what was rolled back, so it waits.
    half = withdrawal.at + (newest.not_after - withdrawal.at) / 2
    if half > chosen.moment:
        return NextRenewal(half, "half of the time left at the rollback has passed")
    return chosen


def is_wanted_at_once(generation: Manifest, info: RenewalInfo, now: datetime) -> bool:
    """Return whether the CA wants a certificate replaced long before it is due.

    RFC 9773 section 4.2: a window in the past means renew at once. A window more than a lifetime
    away is ignored.
    """
    if info.fingerprint != generation.fingerprint or info.window is None:
        return False
    begin, end = generation.not_before, generation.not_after
    return begin - (end - begin) < info.window[1] <= now < renewal_moment(begin, end)


def young_until(newest: Manifest) -> datetime:
    """Return until when a certificate is only renewed at the CA's suggestion."""
    return newest.not_before + min(EARLY, (newest.not_after - newest.not_before) / 10)


def _by_lifetime(newest: Manifest) -> NextRenewal:
    short = newest.not_after - newest.not_before < SHORT_LIVED
    part = "half" if short else "a third"
    moment = renewal_moment(newest.not_before, newest.not_after)
    return NextRenewal(moment, f"{part} of its lifetime is left")


def _suggested(
    newest: Manifest, info: RenewalInfo | None, every: timedelta, now: datetime
) -> NextRenewal | None:
    if info is None or info.fingerprint != newest.fingerprint or info.window is None:
        return None
    start, end = info.window
    if end > newest.not_after:
        # Such a window cannot be meant, and the year 9999 would overflow.
        return None
    moment = _chosen(newest.fingerprint, start, end, every)
    latest = newest.not_after - (newest.not_after - newest.not_before) / LATEST
    own = _by_lifetime(newest)
    if moment > latest or (info.is_stale(now) and moment > own.moment):
        return None
    why = f"the CA suggests {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if info.explanation:
        why += f" (explanation: {info.explanation})"
    return NextRenewal(moment, why)


def _chosen(fingerprint: str, start: datetime, end: datetime, every: timedelta) -> datetime:
    """Return a moment in the window such that the first run after it is in the window, too.

    It is random for each certificate and window (RFC 9773 section 4.2), but the same in every run,
    because it is derived from the certificate's fingerprint.
    """
    seed = hashlib.sha256(f"{fingerprint} {start.isoformat()} {end.isoformat()}".encode()).digest()
    part = int.from_bytes(seed[:4], "big") / 2**32
    return start + max(timedelta(0), (end - start) - every) * part


def issuance_due(  # noqa: PLR0913, PLR0917  # everything that can make an order due
    newest: Manifest | None,
    fleet: Fleet,
    lineage: Lineage,
    now: datetime,
    info: RenewalInfo | None = None,
    withdrawal: Withdrawal | None = None,
    renewed_early_at: datetime | None = None,
    compromised: str = "",
) -> Due | None:
    """Return why an order is needed; None: the certificate matches the fleet file and is not due.

    ``compromised`` says why the newest one's private key is compromised; empty: it is not.
    """
    if newest is None:
        return Due("no certificate yet", first=True)
    every = timedelta(hours=fleet.renewal.every_hours)
    coming = renewal(newest, info, every, now, withdrawal, renewed_early_at)
    since = coming.moment if coming.moment <= now else None
    if compromised:
        return Due(compromised, first=False, since=since)
    directory = fleet.authority.directory
    differs = difference(newest, directory, lineage)
    if differs and (since or not _was_withdrawn(withdrawal, directory, lineage)):
        first = newest.directory != directory or not _same_names(newest, lineage)
        return Due(differs, first=first, since=since)
    if now >= newest.not_after:
        why = f"it expired on {newest.not_after:%Y-%m-%d %H:%M} UTC"
        return Due(why, first=False, since=since)
    if since:
        why = f"{coming.why}, and it expires on {newest.not_after:%Y-%m-%d %H:%M} UTC"
        return Due(why, first=False, since=since)
    return None


def difference(generation: Manifest, directory: str, lineage: Lineage) -> str:
    """Return how a generation differs from the fleet file; empty: it does not."""
    if generation.directory != directory:
        return f"it was signed by {generation.directory}"
    if not _same_names(generation, lineage):
        return f"it is for {', '.join(generation.names)}"
    if generation.key_type != lineage.key_type.value:
        return f"its key is {generation.key_type}"
    return ""


def _same_names(generation: Manifest, lineage: Lineage) -> bool:
    return (generation.asked or generation.names) == tuple(sorted(lineage.names))


def _was_withdrawn(withdrawal: Withdrawal | None, directory: str, lineage: Lineage) -> bool:
    """Return whether the fleet file still asks for what was rolled back."""
    if withdrawal is None or withdrawal.newest is None:
        return False
    return not difference(withdrawal.newest, directory, lineage)


def last_chance(live: Manifest | None) -> datetime | None:
    """Return when vetoes against the live generation's successor end; None: none is live.

    It is half-way between due and expiry: no safeguard may let a site expire.
    """
    return half_way(live.not_before, live.not_after) if live else None


def half_way(not_before: datetime, not_after: datetime) -> datetime:
    """Return the moment half-way from when a certificate is due to its expiry."""
    due = renewal_moment(not_before, not_after)
    return due + (not_after - due) / 2


def patience_ends(due: Due, newest: Manifest | None) -> datetime | None:
    """Return until when an order waits if a challenge may be lost; None: indefinitely.

    A renewal waits for half of the time from due to expiry: no safeguard may let a site expire.
    """
    if newest is None or due.since is None:
        return None
    return due.since + (newest.not_after - due.since) / 2

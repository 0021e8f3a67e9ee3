"""Which time to go by where this machine's clock is far off: the CA's, but only in the end.

Standard library only, so that the hourly run does not load an ACME library just for this.
"""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException

from certsync.system import http_get
from certsync.system.handshake import NO_CHECK_TIME

UNBEARABLE = timedelta(hours=1)
"""How far our clock may be off before nothing is ordered: CAs backdate not-before by an hour."""

TOLERATED = timedelta(minutes=5)
"""How far our clock may be off before it is reported."""

SECONDS = 15
LARGEST = 64 * 1024


def is_far_off(ca_date: datetime | None, now: datetime) -> bool:
    """Return whether our clock, at ``now``, is over an hour off the CA's."""
    return ca_date is not None and abs(now - ca_date) > UNBEARABLE


def how_far_off(ca_date: datetime, now: datetime) -> str:
    """Return how far our clock, at ``now``, is off the CA's, in words; empty: not worth a word."""
    off = now - ca_date
    if abs(off) <= TOLERATED:
        return ""
    side = "ahead of" if off > timedelta(0) else "behind"
    return f"the issuer's clock is {_length(abs(off))} {side} the CA's"


def _length(span: timedelta) -> str:
    if span < timedelta(hours=2):
        return f"{span / timedelta(minutes=1):.0f} minutes"
    if span < timedelta(days=2):
        return f"{span / timedelta(hours=1):.0f} hours"
    return f"{span / timedelta(days=1):.0f} days"


def right_time(ca_date: datetime | None, now: datetime, end: datetime | None) -> datetime | None:
    """Return the time to go by: ours, or the CA's if ours is far off and time is running out.

    ``end`` is when guards end; a clock that is ahead would always be past it, so it is compared
    with the CA's time. None: ours is far off, and there is time to set it.
    """
    if not is_far_off(ca_date, now):
        return now
    return ca_date if end is not None and ca_date is not None and ca_date >= end else None


def ask(directory_url: str, bundle: str) -> datetime | None:
    """Return the CA's time, from its directory's Date header (RFC 9110 section 6.6.1).

    Its chain is verified with ``bundle``, a PEM file, but not its dates: by a wrong clock they
    would seem to be over, or not to have begun. None: it cannot be asked.
    """
    try:
        context = ssl.create_default_context(cafile=bundle)
        context.verify_flags |= NO_CHECK_TIME
        answer = http_get.get(directory_url, http_get.Limits(SECONDS, LARGEST), context=context)
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (OSError, HTTPException, ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else None

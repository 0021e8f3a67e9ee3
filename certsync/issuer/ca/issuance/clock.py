"""Compare this machine's clock with the CA's: nothing is ordered with a wrong date."""

from __future__ import annotations

import http.client
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from certsync.model.errors import ClockError
from certsync.system import http_get, unverified

TOLERATED = timedelta(minutes=5)
"""How far our clock may be off before it is reported."""

UNBEARABLE = timedelta(hours=1)
"""How far it may be off before nothing is ordered: CAs backdate not-before by an hour."""

SECONDS = 10


def clock_finding(ca_date: datetime | None, now: datetime) -> str:
    """Return what is wrong with our clock, by the CA's Date header; empty: nothing.

    Raises:
        ClockError: it is over an hour off.
    """
    if ca_date is None:
        return ""
    off = now - ca_date
    if abs(off) <= TOLERATED:
        return ""
    side = "ahead of" if off > timedelta(0) else "behind"
    text = f"the issuer's clock is {_length(abs(off))} {side} the CA's"
    if abs(off) > UNBEARABLE:
        raise ClockError(
            f"{text}, so nothing was ordered",
            "set the clock (timedatectl set-ntp true), then run this again",
        )
    return text


def _length(span: timedelta) -> str:
    if span < timedelta(hours=2):
        return f"{span / timedelta(minutes=1):.0f} minutes"
    if span < timedelta(days=2):
        return f"{span / timedelta(hours=1):.0f} hours"
    return f"{span / timedelta(days=1):.0f} days"


def unverified_date(url: str) -> datetime | None:
    """Return the Date header of a CA whose own certificate looks invalid by our clock.

    The answer is unauthenticated, so it may stop us but never let us continue.
    """
    try:
        limits = http_get.Limits(SECONDS, 0)
        answer = http_get.get(url, limits, method="HEAD", context=unverified.context())
        return parsedate_to_datetime(answer.headers.get("Date", ""))
    except (OSError, http.client.HTTPException, ValueError, TypeError, OverflowError):
        return None

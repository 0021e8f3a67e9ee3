"""Compare this machine's clock with the CA's: nothing is ordered with a wrong date, for a time."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

from certsync.issuer.ca.right_time import how_far_off, is_far_off, right_time
from certsync.model.errors import ClockError
from certsync.system import http_get, unverified

SECONDS = 10


def clock_finding(ca_date: datetime | None, now: datetime) -> str:
    """Return what is wrong with our clock, by the CA's Date header; empty: nothing.

    Raises:
        ClockError: it is over an hour off.
    """
    if ca_date is None:
        return ""
    text = how_far_off(ca_date, now)
    if is_far_off(ca_date, now):
        raise ClockError(
            f"{text}, so nothing was ordered",
            "set the clock (timedatectl set-ntp true), then run this again",
        )
    return text


def time_to_go_by(
    ca_date: datetime | None, now: datetime, end: datetime | None, tell: Callable[[str], None]
) -> datetime:
    """Return the time by which a certificate is judged: ours, or in the end the CA's.

    ``end`` is when guards end; None: nothing that is served would expire.

    Raises:
        ClockError: our clock is over an hour off the CA's, and there is time to set it.
    """
    time = right_time(ca_date, now, end)
    if time is None or ca_date is None:
        clock_finding(ca_date, now)
        return now
    if warning := how_far_off(ca_date, now):
        going_by = "; going by the CA's, because the live certificate expires soon"
        tell(f"warning: {warning}{going_by if time != now else ''}")
    return time


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

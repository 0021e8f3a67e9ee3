"""Ask a CA when it suggests renewing a certificate (RFC 9773): two plain GETs, no account.

Standard library only, so that the hourly run does not load an ACME library just for this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from certsync.issuer.ca.renewal_info import LONGEST, RenewalInfo, next_ask
from certsync.model.errors import CaSilentError
from certsync.model.generation import Manifest
from certsync.system.process import printable

SECONDS = 15
REDIRECTS = 5
LARGEST = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """The answer to a GET."""

    data: dict[str, Any]
    retry_after: timedelta
    ca_date: datetime | None


def ask(
    directory_url: str, bundle: str, newest: Manifest, now: datetime
) -> tuple[RenewalInfo, Answer]:
    """Return what the CA suggests for the newest generation, and its last answer.

    ``bundle`` is the PEM file that verifies the CA's HTTPS.

    Raises:
        CaSilentError: it cannot be reached, or its answer violates RFC 9773.
    """
    directory = _get(directory_url, bundle, now)
    base = directory.data.get("renewalInfo")
    if not isinstance(base, str) or not newest.renewal_id:
        return RenewalInfo(newest.fingerprint, now, next_ask(now, LONGEST)), directory
    answer = _get(f"{base.rstrip('/')}/{newest.renewal_id}", bundle, now)
    return renewal_info_of(answer, newest.fingerprint, now), answer


def renewal_info_of(info: Answer, fingerprint: str, now: datetime) -> RenewalInfo:
    """Parse the suggestion in an answer.

    Raises:
        CaSilentError: there is none, or its window ends before it begins (RFC 9773 section 4.2).
    """
    try:
        window = info.data["suggestedWindow"]
        start, end = _moment(window["start"]), _moment(window["end"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise CaSilentError("the CA's renewal information has no suggested window") from None
    if end <= start:
        raise CaSilentError("the CA's suggested window ends before it begins")
    explanation = printable(str(info.data.get("explanationURL") or ""))
    return RenewalInfo(fingerprint, now, next_ask(now, info.retry_after), start, end, explanation)


def _moment(text: str) -> datetime:
    # `fromisoformat` accepts Z, and fractions of any length, only since Python 3.11.
    whole, _, rest = text.replace("Z", "+00:00").partition(".")
    zone = rest.lstrip("0123456789")
    moment = datetime.fromisoformat(whole + zone)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.astimezone(timezone.utc)


def _get(url: str, bundle: str, now: datetime) -> Answer:
    import ssl
    from http.client import HTTPException

    from certsync.system import http_get

    if not url.startswith("https://"):
        # The answer must come from the CA and nobody else.
        raise CaSilentError(
            f"the CA's address for renewal information is not https: {printable(url)}"
        )
    try:
        context = ssl.create_default_context(cafile=bundle)
        limits = http_get.Limits(SECONDS, LARGEST, REDIRECTS)
        answer = http_get.get(url, limits, context=context)
        if not 200 <= answer.status < 300:
            raise CaSilentError(f"the CA's renewal information: HTTP {answer.status}")
        data = json.loads(answer.body)
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        why = getattr(error, "verify_message", "") or error
        raise CaSilentError(f"the CA's renewal information cannot be fetched: {why}") from None
    if not isinstance(data, dict):
        raise CaSilentError("the CA's renewal information is invalid")
    wait = _seconds(answer.headers.get("Retry-After", ""), now)
    return Answer(data, wait, _date(answer.headers.get("Date", "")))


def _seconds(text: str, now: datetime) -> timedelta:
    if text.isdecimal():
        # int() would accept any number of digits.
        return timedelta(seconds=int(text)) if len(text) < 6 else LONGEST
    date = _date(text)
    return date - now if date else timedelta(hours=6)


def _date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else None

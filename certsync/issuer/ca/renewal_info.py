"""A CA's suggestion when to renew a certificate (RFC 9773), kept between runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from certsync.model.codec import Moment

SOONEST = timedelta(minutes=1)
LONGEST = timedelta(hours=11)
"""With hourly runs, a CA is asked at least twice a day, whatever it says (RFC 9773 4.3.2)."""

STALE = timedelta(days=2)
"""After this long without an answer, a CA's suggestion no longer delays our own rule."""


@dataclass(frozen=True)
class RenewalInfo:
    """What the CA said about one certificate."""

    fingerprint: str
    """The certificate, by its leaf's SHA-256 in hex."""

    asked: Moment
    ask_again: Moment
    start: Moment | None = None
    """When the suggested window begins; None: this CA suggests none."""

    end: Moment | None = None
    explanation: str = ""
    """The URL of a page with the reason; empty: none."""

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """The suggested window's start and end; None: this CA suggests none."""
        return (self.start, self.end) if self.start and self.end else None

    def is_stale(self, now: datetime) -> bool:
        """Return whether the last answer is too old."""
        return now - self.asked > STALE


def ask_now(info: RenewalInfo | None, fingerprint: str, now: datetime) -> bool:
    """Return whether the CA should be asked about this certificate in this run."""
    if info is None or info.fingerprint != fingerprint:
        return True
    # If it was asked in the future, the clock has been set back since.
    return now >= info.ask_again or now < info.asked


def next_ask(now: datetime, retry_after: timedelta) -> datetime:
    """Return when to ask again: the CA's Retry-After, within reasonable limits."""
    return now + min(max(retry_after, SOONEST), LONGEST)

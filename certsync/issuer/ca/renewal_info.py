"""When a CA suggests that a certificate be renewed (RFC 9773), as it is kept between runs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from certsync.model.moment import moment

SOONEST = timedelta(minutes=1)
LONGEST = timedelta(hours=11)
"""With runs an hour apart a CA is asked at least twice a day, whatever it says (RFC 9773 4.3.2)."""

STALE = timedelta(days=2)
"""After this silence a CA's suggestion no longer puts off what our own rule says."""


@dataclass(frozen=True)
class RenewalInfo:
    """What the CA said of one certificate."""

    fingerprint: str
    """The certificate, by its leaf's SHA-256 in hex."""

    window: tuple[datetime, datetime] | None
    """The suggested window's start and end; None: this CA suggests none."""

    explanation: str
    """The URL of a page that says why; empty: none."""

    asked: datetime
    ask_again: datetime

    def is_stale(self, now: datetime) -> bool:
        """Return whether the CA has been silent for long."""
        return now - self.asked > STALE

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        start, end = self.window or (None, None)
        return {
            "fingerprint": self.fingerprint,
            "start": start.isoformat() if start else "",
            "end": end.isoformat() if end else "",
            "explanation": self.explanation,
            "asked": self.asked.isoformat(),
            "ask_again": self.ask_again.isoformat(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RenewalInfo:
        """Return what `to_json` wrote."""
        window = (moment(data["start"]), moment(data["end"])) if data["start"] else None
        return cls(
            data["fingerprint"], window, data["explanation"],
            moment(data["asked"]), moment(data["ask_again"]),
        )  # fmt: skip


def ask_now(advice: RenewalInfo | None, fingerprint: str, now: datetime) -> bool:
    """Return whether the CA should be asked about this certificate in this run."""
    if advice is None or advice.fingerprint != fingerprint:
        return True
    # One asked in the future tells of a clock that has been set back since.
    return now >= advice.ask_again or now < advice.asked


def next_ask(now: datetime, retry_after: timedelta) -> datetime:
    """Return when to ask again, by the CA's Retry-After within reasonable limits."""
    return now + min(max(retry_after, SOONEST), LONGEST)

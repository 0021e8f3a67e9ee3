"""Failed attempts to get a certificate, kept between runs, and how long to wait then. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Annotated

from msgspec import Meta

from certsync.model.codec import Moment

BACK_OFF = (timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100), timedelta(days=1))
"""Let's Encrypt's advice: after the first, second, third, and every later failure."""

BETWEEN_ORDERS = timedelta(days=1)
"""The pause after a failed order."""

LONGEST_PAUSE = timedelta(days=1)
"""The longest that we wait at a CA's request."""

HOUR = timedelta(hours=1)
ORDERS_AN_HOUR = 4
"""One less than the failed validations that Let's Encrypt allows per name and hour."""

WEEK = timedelta(days=7)
UNUSABLE_A_WEEK = 4
"""One less than the certificates for the same names that Let's Encrypt signs in seven days."""

KEY_PROBLEMS = ("badPublicKey", "badCSR")
"""Problems (RFC 8555 section 6.7) after which the CA would reject the same key again."""

REMEMBERED = 10
NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Tries:
    """The failures since the last issued certificate."""

    count: Annotated[int, Meta(ge=0)] = 0
    last: Moment | None = None
    orders: tuple[Moment, ...] = ()
    """When orders failed, oldest first."""

    unusable: tuple[Moment, ...] = ()
    """When the CA signed a certificate that cannot be served, oldest first."""

    ca_said: Moment | None = None
    """When the CA asked us to come back."""

    error: str = ""
    hint: str = ""
    exit_status: int = 1
    request_key: str = ""
    """What was requested, from the fleet file at the time."""

    problem: str = ""
    """The last word of the CA's problem type (RFC 8555 section 6.7); empty: none was sent."""

    def of(self, request_key: str) -> Tries:
        """Return what counts for a request; for another one, only what the CA's limits count."""
        if request_key == self.request_key:
            return self
        return self.begun_anew(request_key)

    def begun_anew(self, request_key: str) -> Tries:
        """Return no failures, and what the CA's limits count."""
        return Tries(orders=self.orders, unusable=self.unusable, request_key=request_key)

    def next(self, now: datetime, end: datetime | None = None) -> datetime:
        """Return when an unattended run may retry.

        After ``end``, when the live certificate soon expires, only the CA counts its certificates.
        """
        # Moments in the future were written while the clock was wrong.
        waits = [each + BETWEEN_ORDERS for each in self.orders[-1:] if each <= now]
        lately = [each for each in self.unusable if now - WEEK < each <= now]
        if len(lately) >= UNUSABLE_A_WEEK:
            limit = lately[-UNUSABLE_A_WEEK] + WEEK
            waits.append(min(limit, end) if end else limit)
        if self.count and self.last is not None and self.last <= now:
            waits += [self.last + BACK_OFF[min(self.count, len(BACK_OFF)) - 1], self._of_ca(now)]
        return max(waits, default=NEVER)

    def next_interactive(self, now: datetime) -> datetime:
        """Return when somebody at the keyboard may retry: only the CA's limits count."""
        recent = [each for each in self.orders if now - HOUR < each <= now]
        full = len(recent) >= ORDERS_AN_HOUR
        return max(self._of_ca(now), recent[-ORDERS_AN_HOUR] + HOUR if full else NEVER)

    def _of_ca(self, now: datetime) -> datetime:
        if self.ca_said is None or self.last is None or self.last > now:
            return NEVER
        # One attempt a day is within any CA's limits, and maintenance must not let a site expire.
        return min(self.ca_said, self.last + LONGEST_PAUSE)

    def failed(  # noqa: PLR0913  # all that a failure is known by
        self, now: datetime, error: str, hint: str = "", exit_status: int = 1,
        *, order: bool = False, unusable: bool = False, ca_said: datetime | None = None,
    ) -> Tries:  # fmt: skip
        """Return these with one more failure.

        ``order``: an order was placed; ``unusable``: what the CA signed.
        """
        orders = (*self.orders, now)[-REMEMBERED:] if order else self.orders
        return replace(
            self, count=self.count + 1, last=now, orders=orders, ca_said=ca_said,
            unusable=(*self.unusable, now)[-REMEMBERED:] if unusable else self.unusable,
            error=error, hint=hint, exit_status=exit_status, problem="",
        )  # fmt: skip

"""Alerts for people: one message when a problem begins, one when it is over. Pure.

An alert is open from the run that first sees its cause to the run that no longer does. It may be
open for a while before a message is sent: a problem that resolves itself within a day is not news.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from certsync.model import codec
from certsync.model.codec import Moment
from certsync.model.options import Event

PATIENCE = timedelta(days=1)
"""How long a backend may be behind, or runs be postponed, before a message is sent."""

CHALLENGE_PATIENCE = timedelta(days=2)
"""How long a challenge may be lost, while no order is due, before a message is sent."""

LEFT = 4
"""A message is sent when less than this fraction of the lifetime is left: renewal is due long
before, whatever the lifetime."""


@dataclass(frozen=True)
class Observed:
    """What a run observed. What it could not check stays None, and its alerts unchanged."""

    lineage: str
    at: datetime
    error: str = ""
    """Why the run failed; empty: it succeeded."""

    hint: str = ""
    later: bool = False
    """Whether the error was "not now", exit status 75."""

    backends: Mapping[str, datetime | None] | None = None
    """Every backend of the fleet, and since when it has been behind; None: it is not."""

    not_before: datetime | None = None
    """The validity of the current generation."""

    not_after: datetime | None = None
    challenge_looked_at: datetime | None = None
    """When the path of a challenge was last looked at."""

    challenge_missed_since: datetime | None = None
    """Since when a challenge would be lost; None: it would not."""

    challenge_misses: tuple[str, ...] = ()
    """Where it would be lost, in words."""


@dataclass(frozen=True)
class Alert:
    """One ongoing problem."""

    key: str
    """Identifies it: the event, and the backend if it concerns one."""

    event: Event
    since: Moment
    told: bool = False


@dataclass(frozen=True)
class Message:
    """One message."""

    title: str
    body: str
    good: bool
    """Whether it says that a problem is over."""

    key: str = ""
    """The key of its alert; empty: none."""


@dataclass(frozen=True)
class News:
    """The messages to send, and the alerts that are open until they are sent."""

    messages: tuple[Message, ...]
    alerts: tuple[Alert, ...]

    def after(self, sent: Collection[Message]) -> tuple[Alert, ...]:
        """Return the alerts open after these messages were sent; the next run sends the others."""
        begun = {message.key for message in sent if not message.good}
        over = {message.key for message in sent if message.good}
        return tuple(
            replace(alert, told=alert.told or alert.key in begun)
            for alert in self.alerts
            if alert.key not in over
        )


@dataclass(frozen=True)
class _Cause:
    """A problem that exists now."""

    key: str
    event: Event
    since: datetime
    ripe: bool
    """Whether it is time to send a message."""

    title: str
    body: str


def read(kept: Iterable[Any]) -> tuple[Alert, ...]:
    """Return the saved alerts. Invalid ones are dropped, and so reported again."""
    return tuple(alert for each in kept if (alert := _alert(each)))


def judge(alerts: Iterable[Alert], seen: Observed, chosen: Collection[Event]) -> News:
    """Return the messages to send now, for the chosen events.

    Args:
        alerts: those open after the last run.
        seen: what this run observed.
        chosen: the events to report; alerts for others are dropped.
    """
    before = {alert.key: alert for alert in alerts if alert.event in chosen}
    causes = {cause.key: cause for cause in _causes(seen, before) if cause.event in chosen}
    messages, left = [], []
    for key, cause in causes.items():
        alert = replace(before.get(key, Alert(key, cause.event, cause.since)), since=cause.since)
        left.append(alert)
        if cause.ripe and not alert.told:
            messages.append(Message(cause.title, cause.body, good=False, key=key))
    for key, alert in before.items():
        looked_at = _looked_at(alert.event, seen)
        if key not in causes and (alert.told or not looked_at):
            left.append(alert)
            messages += [_over(alert, seen)] if looked_at else []
    return News(tuple(messages), tuple(left))


def _causes(seen: Observed, before: Mapping[str, Alert]) -> Iterator[_Cause]:
    yield from _failed_run(seen, before)
    yield from _backends_behind(seen, before)
    yield from _little_left(seen)
    yield from _challenge_lost(seen)


def _failed_run(seen: Observed, before: Mapping[str, Alert]) -> Iterator[_Cause]:
    if not seen.error:
        return
    key = Event.RUN_FAILED.value
    since = _earliest(seen.at, before.get(key))
    what = "runs have been postponed for over a day" if seen.later else "a run has failed"
    hint = f"hint: {seen.hint}\n" if seen.hint else ""
    yield _Cause(
        key,
        Event.RUN_FAILED,
        since,
        not seen.later or seen.at - since > PATIENCE,
        f"{seen.lineage}: {what}",
        f"error: {seen.error}\n{hint}No run has succeeded since {_moment(since)}. "
        "`certsync status FLEET` shows what every backend serves.",
    )


def _backends_behind(seen: Observed, before: Mapping[str, Alert]) -> Iterator[_Cause]:
    for name, behind_since in (seen.backends or {}).items():
        if behind_since is None:
            continue
        key = f"{Event.BEHIND.value} {name}"
        since = _earliest(behind_since, before.get(key))
        yield _Cause(
            key,
            Event.BEHIND,
            since,
            seen.at - since > PATIENCE,
            f"{seen.lineage}: {name} is behind",
            f"{name} has not been proven to serve the current generation since {_moment(since)}. "
            "`certsync status FLEET` shows why; `certsync deploy FLEET` fixes what it can reach.",
        )


def _little_left(seen: Observed) -> Iterator[_Cause]:
    if seen.not_before is None or seen.not_after is None:
        return
    since = seen.not_after - (seen.not_after - seen.not_before) / LEFT
    if seen.at <= since:
        return
    over = seen.at >= seen.not_after
    what = "has expired" if over else f"expires in {_in_words(seen.not_after - seen.at)}"
    yield _Cause(
        Event.EXPIRING.value,
        Event.EXPIRING,
        since,
        ripe=True,
        title=f"{seen.lineage}: the certificate {what}",
        body=f"It is valid until {_moment(seen.not_after)}, and its renewal is long overdue. "
        "`certsync deploy FLEET` renews what is due, or says why it cannot.",
    )


def _challenge_lost(seen: Observed) -> Iterator[_Cause]:
    since = seen.challenge_missed_since
    if since is None:
        return
    yield _Cause(
        Event.CHALLENGE.value,
        Event.CHALLENGE,
        since,
        seen.at - since > CHALLENGE_PATIENCE,
        f"{seen.lineage}: a challenge would not reach the issuer",
        f"Since {_moment(since)}, the next renewal would fail, because a challenge would be lost: "
        f"{'; '.join(seen.challenge_misses)}. Port 80 of each backend must forward "
        "/.well-known/acme-challenge/ to the issuer: `certsync deploy FLEET` fixes what it "
        "can reach.",
    )


def _looked_at(event: Event, seen: Observed) -> bool:
    return {
        Event.RUN_FAILED: True,
        Event.BEHIND: seen.backends is not None,
        Event.EXPIRING: seen.not_before is not None and seen.not_after is not None,
        Event.CHALLENGE: seen.challenge_looked_at is not None,
    }[event]


def _over(alert: Alert, seen: Observed) -> Message:
    name = alert.key.partition(" ")[2]
    what = {
        Event.RUN_FAILED: "runs succeed again",
        Event.BEHIND: f"{name} serves the current generation again",
        Event.EXPIRING: "the certificate has been renewed",
        Event.CHALLENGE: "a challenge would reach the issuer again",
    }[alert.event]
    if alert.event is Event.BEHIND and name not in (seen.backends or {}):
        what = f"{name} is no longer in the fleet"
    body = f"The problem began on {_moment(alert.since)} and ended on {_moment(seen.at)}."
    return Message(f"{seen.lineage}: {what}", body, good=True, key=alert.key)


def _alert(data: Any) -> Alert | None:
    try:
        return codec.typed(data, Alert)
    except ValueError:
        return None


def _earliest(moment: datetime, alert: Alert | None) -> datetime:
    return min(moment, alert.since) if alert else moment


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _in_words(left: timedelta) -> str:
    hours = int(left / timedelta(hours=1))
    if hours < 1:
        return "less than an hour"
    if hours == 1:
        return "1 hour"
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"

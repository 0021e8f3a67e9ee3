"""What people are told: once per event, once when it is over, and again while nobody got it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certsync.issuer.monitoring import alerts
from certsync.issuer.monitoring.alerts import Alert, Message, News, Observed
from certsync.model import codec
from certsync.model.options import Event
from tests.unit.fake_fleet import NAME, NOW

ALL = tuple(Event)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FINE = Observed(NAME, NOW, backends={"backend-02": None}, not_before=NOW, not_after=NOW + 90 * DAY)
FAILED = replace(FINE, error="the CA refuses", hint="look at it")
LATER = replace(FAILED, error="another run holds the lock", later=True)


def behind(since: datetime, at: datetime = NOW) -> Observed:
    return replace(FINE, at=at, backends={"backend-02": since, "backend-03": None})


def left(share: float, days: float = 90) -> Observed:
    """Return a run with this share of a lifetime left."""
    not_before = NOW - days * DAY * (1 - share)
    return replace(FINE, not_before=not_before, not_after=not_before + days * DAY)


def titles(news: News) -> list[str]:
    return [message.title.removeprefix(f"{NAME}: ") for message in news.messages]


class Runs:
    """Runs one after the other, with what they keep, as the issuer makes them."""

    def __init__(self, *chosen: Event) -> None:
        self.chosen = chosen or ALL
        self.open: tuple[Alert, ...] = ()

    def told(self, seen: Observed, *, arrives: bool = True) -> list[str]:
        """Make a run, and return the titles of what it sent."""
        news = alerts.judge(self.open, seen, self.chosen)
        left_open = news.after(news.messages if arrives else ())
        written = json.dumps(codec.plain(left_open))
        self.open = alerts.read(json.loads(written))
        assert self.open == left_open
        return titles(news)


# Once, and once when it is over


@pytest.mark.parametrize(
    ("seen", "begun", "over"),
    [
        pytest.param(FAILED, "a run has failed", "runs succeed again", id="run"),
        pytest.param(
            behind(NOW - 2 * DAY), "backend-02 is behind",
            "backend-02 serves the current generation again", id="backend",
        ),
        pytest.param(
            left(0.2), "the certificate expires in 18 days", "the certificate has been renewed",
            id="certificate",
        ),
    ],
)  # fmt: skip
def test_people_are_told_once_and_once_when_it_is_over(
    seen: Observed, begun: str, over: str
) -> None:
    runs = Runs()
    assert [runs.told(each) for each in (seen, seen, FINE, FINE)] == [[begun], [], [over], []]
    assert runs.open == ()
    assert runs.told(seen) == [begun]


def test_a_good_run_has_nothing_to_tell() -> None:
    assert alerts.judge((), FINE, ALL) == News((), ())


def test_only_the_events_that_were_chosen_are_told() -> None:
    everything = replace(FAILED, backends=behind(NOW - 2 * DAY).backends)
    assert Runs(Event.BEHIND).told(everything) == ["backend-02 is behind"]
    assert alerts.judge((), everything, ()) == News((), ())


def test_an_event_that_is_chosen_no_more_is_forgotten_without_a_word() -> None:
    runs = Runs()
    runs.told(FAILED)
    runs.chosen = (Event.BEHIND,)
    assert runs.told(FINE) == []
    assert runs.open == ()


def test_every_backend_has_an_alert_of_its_own() -> None:
    runs = Runs()
    since = NOW - 2 * DAY
    both = replace(FINE, backends={"a": since, "b": since})
    assert runs.told(both) == ["a is behind", "b is behind"]
    assert runs.told(replace(both, backends={"a": None, "b": since})) == [
        "a serves the current generation again"
    ]


# What nobody got is not told


def test_a_message_that_did_not_arrive_is_sent_again_by_the_next_run() -> None:
    runs = Runs()
    assert runs.told(FAILED, arrives=False) == ["a run has failed"]
    assert runs.told(FAILED) == ["a run has failed"]
    assert runs.told(FAILED) == []


def test_what_is_over_and_was_never_told_is_not_told_to_be_over() -> None:
    runs = Runs()
    runs.told(FAILED, arrives=False)
    assert runs.told(FINE) == []
    assert runs.open == ()


def test_that_it_is_over_is_sent_until_it_arrives() -> None:
    runs = Runs()
    runs.told(FAILED)
    assert runs.told(FINE, arrives=False) == ["runs succeed again"]
    assert runs.told(FINE) == ["runs succeed again"]
    assert runs.told(FINE) == []


def test_of_two_messages_the_one_that_arrived_is_told() -> None:
    seen = replace(FAILED, backends=behind(NOW - 2 * DAY).backends)
    news = alerts.judge((), seen, ALL)
    assert [alert.told for alert in news.after(news.messages[:1])] == [True, False]


# A run that failed


def test_a_run_that_is_put_off_is_no_failure_unless_that_lasts_for_over_a_day() -> None:
    runs = Runs()
    said = [runs.told(replace(LATER, at=NOW + n * HOUR)) for n in range(27)]
    assert [n for n, each in enumerate(said) if each] == [25]
    assert said[25] == ["runs have been postponed for over a day"]
    assert runs.told(FINE) == ["runs succeed again"]


def test_a_run_that_fails_after_others_were_put_off_is_told_at_once() -> None:
    runs = Runs()
    assert runs.told(LATER) == []
    assert runs.told(replace(FAILED, at=NOW + HOUR)) == ["a run has failed"]


def test_a_run_that_is_put_off_after_one_that_failed_does_not_end_the_alert() -> None:
    runs = Runs()
    runs.told(FAILED)
    assert runs.told(replace(LATER, at=NOW + HOUR)) == []
    assert runs.told(FINE) == ["runs succeed again"]


def test_the_message_has_the_error_its_hint_and_since_when() -> None:
    (message,) = alerts.judge((), FAILED, ALL).messages
    assert message == Message(
        f"{NAME}: a run has failed",
        "error: the CA refuses\nhint: look at it\n"
        "No run has succeeded since 2026-11-21 12:00 UTC. "
        "`certsync status FLEET` shows what every backend serves.",
        good=False,
        key="run-failed",
    )


# A backend that is behind


@pytest.mark.parametrize(("hours", "told"), [(0, []), (24, []), (24.1, ["backend-02 is behind"])])
def test_a_backend_is_told_to_be_behind_after_a_day(hours: float, told: list[str]) -> None:
    assert titles(alerts.judge((), behind(NOW - hours * HOUR), ALL)) == told


def test_since_when_a_backend_is_behind_is_kept_also_by_the_alert() -> None:
    runs = Runs()
    assert runs.told(behind(NOW)) == []
    assert runs.told(behind(NOW + 25 * HOUR, at=NOW + 25 * HOUR)) == ["backend-02 is behind"]
    assert runs.open[0].since == NOW


def test_a_run_that_did_not_look_at_the_backends_leaves_their_alerts_open() -> None:
    runs = Runs()
    runs.told(behind(NOW - 2 * DAY))
    assert runs.told(replace(FINE, backends=None)) == []
    assert runs.told(FINE) == ["backend-02 serves the current generation again"]


def test_a_backend_that_left_the_fleet_is_not_said_to_serve_anything() -> None:
    runs = Runs()
    runs.told(behind(NOW - 2 * DAY))
    assert runs.told(replace(FINE, backends={})) == ["backend-02 is no longer in the fleet"]


# A certificate that expires


@pytest.mark.parametrize(
    ("days", "share", "told"),
    [
        pytest.param(90, 0.26, [], id="more than a quarter of 90 days"),
        pytest.param(90, 0.25, [], id="a quarter"),
        pytest.param(90, 0.24, ["the certificate expires in 21 days"], id="less than a quarter"),
        pytest.param(6, 0.5, [], id="three of six days are half a lifetime"),
        pytest.param(6, 0.24, ["the certificate expires in 34 hours"], id="a day and a half of 6"),
        pytest.param(1, 0.05, ["the certificate expires in 1 hour"], id="an hour"),
        pytest.param(1, 0.01, ["the certificate expires in less than an hour"], id="minutes"),
        pytest.param(90, 0, ["the certificate has expired"], id="expired"),
        pytest.param(90, -1, ["the certificate has expired"], id="expired long ago"),
    ],
)
def test_little_time_is_measured_in_lifetimes_and_not_in_days(
    days: float, share: float, told: list[str]
) -> None:
    assert titles(alerts.judge((), left(share, days), ALL)) == told


def test_without_a_certificate_to_look_at_its_alert_stays_as_it_is() -> None:
    runs = Runs()
    runs.told(left(0.1))
    assert runs.told(replace(FINE, not_before=None, not_after=None)) == []
    assert [alert.told for alert in runs.open] == [True]


# What is kept


@pytest.mark.parametrize(
    "kept",
    [
        None,
        "text",
        {},
        {"key": "behind a", "event": "no-such", "since": NOW.isoformat(), "told": True},
        {"key": "behind a", "event": "behind", "since": "yesterday", "told": True},
    ],
)
def test_what_is_no_alert_is_left_out(kept: object) -> None:
    good = Alert("behind b", Event.BEHIND, NOW, told=True)
    assert alerts.read([kept, codec.plain(good)]) == (good,)


# A challenge that would be lost


def lost(since: datetime, at: datetime) -> Observed:
    return replace(
        FINE, at=at, challenge_looked_at=at, challenge_missed_since=since,
        challenge_misses=("backend-02 (203.0.113.12): answers HTTP 404",),
    )  # fmt: skip


def test_a_challenge_that_would_be_lost_is_told_after_two_days_and_when_it_is_over() -> None:
    runs = Runs()
    assert runs.told(lost(NOW, NOW)) == []
    assert runs.told(lost(NOW, NOW + 2 * DAY)) == []
    assert runs.told(lost(NOW, NOW + 2 * DAY + HOUR)) == ["a challenge would not reach the issuer"]
    assert runs.told(lost(NOW, NOW + 3 * DAY)) == []
    assert runs.told(replace(FINE, at=NOW + 4 * DAY)) == []
    well = replace(FINE, at=NOW + 4 * DAY, challenge_looked_at=NOW + 4 * DAY)
    assert runs.told(well) == ["a challenge would reach the issuer again"]


def test_a_lost_challenge_is_told_with_where_it_is_lost() -> None:
    news = alerts.judge((), lost(NOW, NOW + 3 * DAY), ALL)
    assert "backend-02 (203.0.113.12): answers HTTP 404" in news.messages[0].body

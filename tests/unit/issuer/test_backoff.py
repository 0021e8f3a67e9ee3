"""How long a failed try is waited after, and that it is kept between runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certsync.issuer.backoff import NEVER, Tries
from certsync.model import codec
from tests.unit.fake_fleet import NOW

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def after(count: int, *, order: bool = False) -> Tries:
    """Return so many failures, all at the same time."""
    tries = Tries()
    for _ in range(count):
        tries = tries.failed(NOW, "no answer", order=order)
    return tries


@pytest.mark.parametrize(
    ("count", "wait"),
    [(1, MINUTE), (2, 10 * MINUTE), (3, 100 * MINUTE), (4, DAY), (5, DAY), (40, DAY)],
)
def test_failed_tries_back_off_to_one_a_day(count: int, wait: timedelta) -> None:
    assert after(count).next(NOW) == NOW + wait


def test_nothing_is_waited_for_without_a_failure() -> None:
    assert Tries().next(NOW) == NEVER
    assert Tries().next_interactive(NOW) == NEVER


def test_after_an_order_that_came_to_nothing_the_next_one_waits_a_day() -> None:
    assert after(1, order=True).next(NOW) == NOW + DAY


def test_a_failure_after_it_does_not_shorten_that_day() -> None:
    tries = after(1, order=True).failed(NOW + HOUR, "no answer")
    assert tries.next(NOW + HOUR) == NOW + DAY


def test_the_cas_own_word_is_kept() -> None:
    tries = Tries().failed(NOW, "busy", exit_status=75, ca_said=NOW + 5 * HOUR)
    assert tries.next(NOW) == NOW + 5 * HOUR
    assert tries.next_interactive(NOW) == NOW + 5 * HOUR


def test_a_word_of_the_cas_that_would_let_the_site_expire_is_kept_for_a_day() -> None:
    tries = Tries().failed(NOW, "maintenance", exit_status=75, ca_said=NOW + 365 * DAY)
    assert tries.next(NOW) == tries.next_interactive(NOW) == NOW + DAY


def test_a_person_waits_for_nothing_but_the_cas_limit_of_failed_orders_an_hour() -> None:
    assert after(3, order=True).next_interactive(NOW) == NEVER
    assert after(4, order=True).next_interactive(NOW) == NOW + HOUR
    assert after(4, order=True).next_interactive(NOW + HOUR) == NEVER


def test_failures_written_under_a_clock_that_was_ahead_do_not_hold_for_a_year() -> None:
    tries = Tries().failed(NOW + 365 * DAY, "no answer", order=True, ca_said=NOW + 366 * DAY)
    assert tries.next(NOW) == NEVER
    assert tries.next_interactive(NOW) == NEVER


def test_a_changed_fleet_file_is_tried_at_once_but_within_the_limits_of_orders() -> None:
    assert Tries(request_key="a").failed(NOW, "no such profile").of("b").next(NOW) == NEVER
    failed = Tries(request_key="a").failed(NOW, "not validated", order=True)
    assert failed.of("a") == failed
    assert failed.of("b").next(NOW) == NOW + DAY
    assert failed.of("b").next_interactive(NOW) == NEVER


def test_tries_are_read_as_they_were_written() -> None:
    before = after(2, order=True).failed(NOW, "busy", "wait", 75, ca_said=NOW + HOUR)
    assert codec.typed(codec.plain(before), Tries) == before
    assert codec.typed(codec.plain(Tries()), Tries) == Tries()


def test_what_nobody_can_serve_is_ordered_four_times_a_week_until_time_runs_out() -> None:
    tries = Tries()
    for day in range(4):
        tries = tries.failed(NOW + day * DAY, "must-staple", order=True, unusable=True)
    last = NOW + 3 * DAY
    assert tries.next(last) == NOW + 7 * DAY
    assert tries.of("another request").next(last) == NOW + 7 * DAY
    # No guard of ours lets a site expire: from here on the CA itself says no.
    assert tries.next(last, end=NOW + 5 * DAY) == NOW + 5 * DAY
    assert tries.next(last, end=NOW) == last + DAY

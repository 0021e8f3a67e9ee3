"""When a certificate is ordered, for every lifetime there is and will be."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from certsync.issuer.ca.renewal_info import LONGEST, RenewalInfo, ask_now, next_ask
from certsync.issuer.schedule import (
    Due,
    Withdrawal,
    issuance_due,
    patience_ends,
    renewal,
    renewal_moment,
)
from certsync.model import codec
from certsync.model.fleet import Authority, Fleet
from certsync.model.generation import Manifest
from certsync.model.options import KeyType
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def suggestion(start: timedelta, length: timedelta, /, **changes: object) -> RenewalInfo:
    """Return the CA's suggestion for the first generation, asked now, relative to now."""
    values = {
        "fingerprint": manifest().fingerprint,
        "start": NOW + start,
        "end": NOW + start + length,
        "asked": NOW,
        "ask_again": NOW + 6 * HOUR,
        **changes,
    }
    return RenewalInfo(**values)  # type: ignore[arg-type]  # a test's shorthand


def due(
    newest: Manifest | None, now: datetime = NOW, wanted: Fleet | None = None, **more: object
) -> Any:
    asked = wanted or fleet()
    return issuance_due(newest, asked, asked.lineages[0], now, **more)  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("days", "due_after"),
    [
        pytest.param(90, 60, id="90 days: a third left"),
        pytest.param(64, 64 * 2 / 3, id="64 days: a third left"),
        pytest.param(45, 30, id="45 days: a third left"),
        pytest.param(10, 10 * 2 / 3, id="10 days: a third left"),
        pytest.param(160 / 24, 80 / 24, id="160 hours: half left"),
        pytest.param(6, 3, id="6 days: half left"),
    ],
)
def test_without_advice_a_renewal_is_due_by_a_part_of_the_lifetime(
    days: float, due_after: float
) -> None:
    begin = NOW
    moment = renewal_moment(begin, begin + timedelta(days=days))
    assert abs(moment - (begin + timedelta(days=due_after))) < timedelta(seconds=1)
    newest = manifest(days=days)
    minute = timedelta(minutes=1)
    assert due(newest, moment - minute) is None
    assert due(newest, moment + minute).since == moment


@pytest.mark.parametrize("days", [6, 160 / 24, 45, 64, 90])
def test_every_lifetime_is_renewed_once_and_then_not_for_its_whole_first_part(days: float) -> None:
    newest = manifest(days=days)
    hours = int(days * 24)
    due_at = [run for run in range(hours) if due(newest, NOW + run * HOUR)]
    part = 1 / 2 if days < 10 else 2 / 3
    assert due_at[0] == pytest.approx(hours * part, abs=1.1)
    assert due_at == list(range(due_at[0], hours))


def test_nothing_is_ordered_while_a_valid_certificate_for_the_same_names_is_there() -> None:
    assert due(manifest(age=59)) is None


def test_a_first_certificate_is_ordered() -> None:
    assert due(None) == Due("no certificate yet", first=True)


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        (manifest(names=("other.example.com",)), "it is for other.example.com"),
        (manifest(directory="https://old.example/dir"), "it was signed by https://old.example/dir"),
    ],
)
def test_other_names_or_another_ca_mean_a_first_order_again(newest: Manifest, why: str) -> None:
    assert due(newest) == Due(why, first=True)


@pytest.mark.parametrize(
    ("age", "why"),
    [
        (61, "a third of its lifetime is left, and it expires on 2026-12-20 12:00 UTC"),
        (91, "it expired on 2026-11-20 12:00 UTC"),
    ],
)
def test_an_old_certificate_is_renewed(age: float, why: str) -> None:
    found = due(manifest(age=age))
    assert (found.why, found.first) == (why, False)


def test_another_key_type_means_a_new_certificate() -> None:
    found = due(manifest(), wanted=fleet(key_type=KeyType.RSA_2048))
    assert found == Due("its key is ecdsa-p256", first=False)


# What the CA suggests (RFC 9773)


def test_a_renewal_waits_for_a_moment_inside_the_suggested_window() -> None:
    newest = manifest(days=6)
    suggested = suggestion(60 * HOUR, 4 * HOUR)
    moments = {
        renewal(
            manifest(days=6, fingerprint=f"{number:064x}"),
            suggestion(60 * HOUR, 4 * HOUR, fingerprint=f"{number:064x}"),
            HOUR,
            NOW,
        ).moment
        for number in range(200)
    }
    assert len(moments) == 200
    assert min(moments) >= NOW + 60 * HOUR
    # The first hourly run after it is still inside.
    assert max(moments) <= NOW + 63 * HOUR
    assert max(moments) - min(moments) > 2 * HOUR
    chosen = renewal(newest, suggested, HOUR, NOW)
    assert chosen == renewal(newest, suggested, HOUR, NOW + DAY)
    assert due(newest, chosen.moment - timedelta(seconds=1), info=suggested) is None
    assert due(newest, chosen.moment, info=suggested).since == chosen.moment


def test_a_window_in_the_past_means_now_and_its_explanation_is_told() -> None:
    page = "https://ca.example/incident"
    found = due(manifest(), info=suggestion(-2 * HOUR, HOUR, explanation=page))
    assert found.why == (
        "the CA suggests 2026-11-21 10:00 to 2026-11-21 11:00 UTC (explanation: "
        "https://ca.example/incident), and it expires on 2027-02-19 12:00 UTC"
    )


def test_a_window_shorter_than_the_time_between_two_runs_is_begun_at_its_start() -> None:
    assert renewal(manifest(), suggestion(DAY, HOUR / 2), HOUR, NOW).moment == NOW + DAY


def test_the_advice_for_another_certificate_counts_nothing() -> None:
    other = suggestion(-2 * HOUR, HOUR, fingerprint="ff")
    assert due(manifest(), info=other) is None


def test_no_advice_moves_a_renewal_to_the_last_tenth_of_the_lifetime() -> None:
    late = suggestion(85 * DAY, DAY)
    assert renewal(manifest(), late, HOUR, NOW).moment == NOW + 60 * DAY
    allowed = suggestion(70 * DAY, DAY)
    assert renewal(manifest(), allowed, HOUR, NOW).moment >= NOW + 70 * DAY


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("9999-12-31T12:00:00+12:00", "9999-12-31T23:59:59-12:00"),
        ("2026-12-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"),
        ("0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00"),
        ("2027-02-18T12:00:00+00:00", "2027-02-19T12:00:01+00:00"),
    ],
)
def test_a_window_that_ends_after_the_certificate_is_ignored(start: str, end: str) -> None:
    window = {"start": datetime.fromisoformat(start), "end": datetime.fromisoformat(end)}
    for number in range(50):
        suggested = suggestion(DAY, DAY, fingerprint=f"{number:064x}", **window)
        newest = manifest(fingerprint=f"{number:064x}")
        assert renewal(newest, suggested, HOUR, NOW).moment == NOW + 60 * DAY


def test_names_that_the_ca_has_added_are_no_reason_to_order_again() -> None:
    added = manifest(names=(NAME, f"www.{NAME}"), asked=(NAME,))
    assert due(added) is None
    assert due(manifest(names=(NAME, f"www.{NAME}"))) is not None
    assert due(added, wanted=fleet(names=(NAME, f"www.{NAME}"))) is not None


def test_advice_of_a_ca_that_has_fallen_silent_puts_off_nothing() -> None:
    late = suggestion(70 * DAY, DAY)
    assert renewal(manifest(), late, HOUR, NOW + 3 * DAY).moment == NOW + 60 * DAY


@pytest.mark.parametrize(
    ("asked_before", "ask"),
    [
        pytest.param(timedelta(hours=5), False, id="the CA's Retry-After is kept"),
        pytest.param(timedelta(hours=6), True, id="and over"),
        pytest.param(-HOUR, True, id="asked in the future, by a clock that was wrong"),
    ],
)
def test_the_ca_is_asked_again_when_it_said(asked_before: timedelta, ask: bool) -> None:
    at = NOW - asked_before
    known = suggestion(DAY, DAY, asked=at, ask_again=at + 6 * HOUR)
    assert ask_now(known, known.fingerprint, NOW) is ask


def test_the_ca_is_asked_of_a_certificate_it_was_never_asked_of() -> None:
    assert ask_now(None, "ff", NOW)
    assert ask_now(suggestion(DAY, DAY), "ff", NOW)


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        (timedelta(0), timedelta(minutes=1)),
        (6 * HOUR, 6 * HOUR),
        (7 * DAY, LONGEST),
    ],
)
def test_the_cas_pause_is_kept_within_reason_and_it_is_asked_twice_a_day(
    retry_after: timedelta, wait: timedelta
) -> None:
    assert next_ask(NOW, retry_after) == NOW + wait
    assert timedelta(hours=12) >= LONGEST + HOUR


def test_advice_is_read_as_it_was_written() -> None:
    for before in (suggestion(DAY, DAY, explanation="https://ca.example/x"), suggestion(DAY, DAY)):
        assert codec.typed(codec.plain(before), RenewalInfo) == before
    none = suggestion(DAY, DAY, start=None, end=None)
    assert none.window is None
    assert codec.typed(codec.plain(none), RenewalInfo) == none


def test_a_ca_that_calls_every_new_certificate_to_be_replaced_gets_one_order_a_day() -> None:
    at_once = suggestion(-2 * HOUR, HOUR)
    assert due(manifest(), info=at_once)
    assert due(manifest(), NOW + HOUR, info=at_once, renewed_early_at=NOW) is None
    assert due(manifest(), NOW + DAY, info=at_once, renewed_early_at=NOW)


def test_a_window_at_the_beginning_of_time_is_in_the_past() -> None:
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    ancient = suggestion(DAY, DAY, start=first, end=first + HOUR / 2)
    assert renewal(manifest(), ancient, HOUR, NOW).moment == first


# After a rollback


def test_after_a_rollback_nothing_is_ordered_until_half_of_the_time_left_is_gone() -> None:
    old = manifest(1, days=90, age=61)
    rolled_back = Withdrawal(NOW, manifest(2))
    assert due(old, NOW + HOUR, withdrawal=rolled_back) is None
    assert due(old, NOW + 14 * DAY, withdrawal=rolled_back) is None
    found = due(old, NOW + 15 * DAY, withdrawal=rolled_back)
    assert found.why.startswith("half of the time left at the rollback has passed")


def test_after_a_rollback_what_the_ca_wants_replaced_at_once_is_ordered() -> None:
    old, rolled_back = manifest(1), Withdrawal(NOW, manifest(2))
    revoked = suggestion(-2 * DAY, DAY)
    found = due(old, NOW + HOUR, info=revoked, withdrawal=rolled_back)
    assert found is not None
    assert found.why.startswith("the CA suggests ")
    later = suggestion(2 * DAY, DAY)
    assert due(old, NOW + HOUR, info=later, withdrawal=rolled_back) is None


def test_after_a_rollback_what_was_withdrawn_is_not_ordered_again_at_once() -> None:
    old = manifest(1, key_type="rsa-2048")
    rolled_back = Withdrawal(NOW, manifest(2))
    assert due(old, NOW + HOUR, withdrawal=rolled_back) is None


def test_a_new_wish_after_a_rollback_is_ordered() -> None:
    old = manifest(1, key_type="rsa-2048")
    rolled_back = Withdrawal(NOW, manifest(2))
    found = due(old, NOW, fleet(key_type=KeyType.ECDSA_P384), withdrawal=rolled_back)
    assert found.why == "its key is rsa-2048"


# Guards


def test_a_guard_delays_a_renewal_until_half_of_the_time_from_due_to_expiry() -> None:
    newest = manifest(days=90, age=61)
    found = due(newest)
    assert found.since == NOW - DAY
    assert patience_ends(found, newest) == NOW + 14 * DAY


@pytest.mark.parametrize(
    "newest",
    [
        pytest.param(None, id="a first certificate"),
        pytest.param(manifest(names=("other.example.com",)), id="other names, in good time"),
    ],
)
def test_a_guard_stops_what_nothing_expires_without(newest: Manifest | None) -> None:
    assert patience_ends(due(newest), newest) is None


def test_staging_roots_or_a_private_ca_are_not_publicly_trusted() -> None:
    assert Authority("https://ca.example/dir").publicly_trusted
    assert not Authority("https://ca.example/dir", roots="/roots.pem").publicly_trusted

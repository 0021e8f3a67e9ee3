"""When a certificate is ordered, for every lifetime there is and will be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certsync.fleet import Authority, KeyType
from certsync.schedule import issuance_due, renewal_moment
from tests.unit.fake_fleet import NOW, fleet, manifest


@pytest.mark.parametrize(
    ("days", "due_after"),
    [
        pytest.param(90, 60, id="90 days: a third left"),
        pytest.param(64, 64 * 2 / 3, id="64 days: a third left"),
        pytest.param(45, 30, id="45 days: a third left"),
        pytest.param(10, 10 * 2 / 3, id="10 days: a third left"),
        pytest.param(6, 3, id="6 days: half left"),
    ],
)
def test_a_renewal_is_due_by_a_part_of_the_lifetime(days: float, due_after: float) -> None:
    begin = NOW
    moment = renewal_moment(begin, begin + timedelta(days=days))
    assert abs(moment - (begin + timedelta(days=due_after))) < timedelta(seconds=1)


def test_nothing_is_ordered_while_a_valid_certificate_for_the_same_names_is_there() -> None:
    assert issuance_due(manifest(age=59), fleet(), NOW) is None


def test_a_first_certificate_is_ordered() -> None:
    due = issuance_due(None, fleet(), NOW)
    assert due is not None
    assert due.first


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        (manifest(names=("other.example.com",)), "it is for other.example.com"),
        (manifest(directory="https://old.example/dir"), "it was signed by https://old.example/dir"),
    ],
)
def test_other_names_or_another_ca_mean_a_first_order_again(newest: object, why: str) -> None:
    due = issuance_due(newest, fleet(), NOW)  # type: ignore[arg-type]  # pytest's parameters
    assert due is not None
    assert (due.why, due.first) == (why, True)


@pytest.mark.parametrize(
    ("age", "why"),
    [
        (61, "it expires on 2026-12-20 12:00 UTC"),
        (91, "it expired on 2026-11-20 12:00 UTC"),
    ],
)
def test_an_old_certificate_is_renewed(age: float, why: str) -> None:
    due = issuance_due(manifest(age=age), fleet(), NOW)
    assert due is not None
    assert (due.why, due.first) == (why, False)


def test_another_key_type_means_a_new_certificate() -> None:
    due = issuance_due(manifest(), fleet(key_type=KeyType.RSA_2048), NOW)
    assert due is not None
    assert due.why == "its key is ecdsa-p256"


def test_staging_roots_or_a_private_ca_are_not_publicly_trusted() -> None:
    assert Authority("https://ca.example/dir").publicly_trusted
    assert not Authority("https://ca.example/dir", roots="/roots.pem").publicly_trusted

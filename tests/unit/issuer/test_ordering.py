"""What becomes of an order: what is kept, what is noted, and when the next one is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certsync.issuer.backoff import Tries
from certsync.issuer.ca import due, issuance, ordering
from certsync.issuer.ca.issuance import Issued, Request
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import backend, receivers
from certsync.issuer.replicas.answer import Answer
from certsync.issuer.replicas.backend import Backend
from certsync.issuer.store import Store
from certsync.model.certificate import parse_chain
from certsync.model.errors import (
    CaError,
    CaSilentError,
    CertsyncError,
    OrderFailedError,
    StoreError,
)
from certsync.model.fleet import SYSTEM_ROOTS
from certsync.programs import receiver
from certsync.system import proving
from tests.unit.fake_fleet import DIRECTORY, NAME, NOW, fleet, machine
from tests.unit.issuer.fake_disk import Heard, disk, render, seen
from tests.unit.issuer.test_registration import lay
from tests.unit.issuer.test_run import keep_empty
from tests.unit.programs.test_receiver import make_pair

DAY = timedelta(days=1)
UNFIT = Answer(ok=False, why="clients would reject it", of_content=True)
FULL = Answer(ok=False, why="No space left on device")


class Receiver(Backend):
    """The issuer's own receiver, with one answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(machine("backend-01", 11), local=True)
        self.answer = answer

    def ask(self, *_: object) -> Answer:
        """Return the answer."""
        return self.answer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store, where challenges are known to find their way."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    monkeypatch.setattr(backend, "PUSH_RUNTIME", tmp_path / "run")
    store = disk(tmp_path)
    monkeypatch.setattr(ordering, "look_before_buying", lambda run, _: run.seen.lineage)
    monkeypatch.setattr(ordering, "free_number", lambda one: 1 + max(one.seen.numbers, default=0))
    monkeypatch.setattr(proving, "prove", lambda *_: [])
    answers(monkeypatch, Answer(ok=True))
    return store


def answers(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Let the issuer's receiver give this answer to everything."""

    @contextmanager
    def connected(*_: object, **_options: object) -> Iterator[Sequence[Backend]]:
        yield [Receiver(answer)]

    monkeypatch.setattr(receivers, "connected", connected)


def signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Request]:
    """Let the CA sign every order, and return how each one is made."""
    asked: list[Request] = []

    def obtain(*arguments: Any) -> Issued:
        asked.append(arguments[-1])
        make_pair(tmp_path, days=90)
        pem = (tmp_path / "cert.pem").read_text()
        return Issued((tmp_path / "privkey.pem").read_bytes(), parse_chain(pem), "account", "order")

    monkeypatch.setattr(issuance, "obtain", obtain)
    return asked


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Request]:
    """Let every order end in an error, and return how each one is made."""
    asked: list[Request] = []

    def obtain(*arguments: Any) -> Issued:
        asked.append(arguments[-1])
        raise error

    monkeypatch.setattr(issuance, "obtain", obtain)
    return asked


def unattended(store: Store, now: datetime) -> int | None:
    return ordering.issue(Heard().run(seen(store), now), interactive=False)


def tries(store: Store) -> int:
    return Memory(store).of(NAME).tries.count


def target(store: Store) -> int | None:
    return seen(store).target


def reasons(store: Store) -> list[str]:
    run = Heard().run(seen(store))
    return due.outlook(run.seen, run.known, NOW).reasons


# What the issuer's own receiver says of it


def test_what_the_issuers_own_receiver_refuses_counts_as_a_failed_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = signs(monkeypatch, tmp_path)
    answers(monkeypatch, UNFIT)
    with pytest.raises(OrderFailedError) as caught:
        unattended(store, NOW)
    assert caught.value.message == (
        "backend-01, the issuer, refuses generation 0001, which was just ordered: clients would "
        "reject it"
    )
    assert (target(store), tries(store)) == (None, 1)
    with pytest.raises(CertsyncError, match="the next attempt is after 2026-11-22"):
        unattended(store, NOW + timedelta(hours=1))
    answers(monkeypatch, Answer(ok=True))
    assert unattended(store, NOW + DAY) == 2
    assert (target(store), tries(store), len(asked)) == (2, 0, 2)


def test_a_full_disk_of_the_issuer_is_no_failed_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signs(monkeypatch, tmp_path)
    answers(monkeypatch, FULL)
    assert unattended(store, NOW) == 1
    assert (target(store), tries(store)) == (1, 0)


# The account


def test_an_account_that_could_not_order_is_registered_before_an_order_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signs(monkeypatch, tmp_path)
    enrolled: list[str] = []

    def register(*_: object) -> str:
        enrolled.append("once")
        lay(store.account(DIRECTORY))
        return "https://ca.example/account/2"

    monkeypatch.setattr(issuance, "register", register)
    unattended(store, NOW)
    assert enrolled == []
    assert reasons(store)[0].startswith("no order is due, but the CA account's key")
    heard = Heard()
    assert ordering.issue(heard.run(seen(store))) is None
    assert heard.told[-1] == "registered at the CA: account https://ca.example/account/2"
    assert reasons(store) == []
    unattended(store, NOW)
    assert enrolled == ["once"]


def test_a_registration_that_fails_is_tried_again_no_sooner_than_an_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signs(monkeypatch, tmp_path)
    unattended(store, NOW)
    asked: list[str] = []

    def register(*_: object) -> str:
        asked.append("once more")
        raise CaSilentError("the CA cannot be reached")

    monkeypatch.setattr(issuance, "register", register)
    for run in range(24):
        with pytest.raises(CaError):
            unattended(store, NOW + timedelta(hours=run))
    assert len(asked) == 4


# Failures


class NobodyForesawError(Exception):
    """Something that no border translates."""


@pytest.mark.parametrize(
    "error",
    [
        CaError("the CA refused"),
        StoreError("/etc/certsync/eab-hmac-key is not there"),
        OSError(28, "No space left on device", "/etc/certsync/pending"),
        ValueError("a bad extension"),
        NobodyForesawError(),
    ],
)
def test_every_failure_of_an_order_is_a_noted_try(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fails(monkeypatch, error)
    with pytest.raises(type(error)):
        unattended(store, NOW)
    assert tries(store) == 1
    with pytest.raises(CertsyncError, match="the next attempt is after"):
        unattended(store, NOW)


@pytest.mark.parametrize(
    ("problem", "new_key"), [("badPublicKey", True), ("badCSR", True), ("caa", False), ("", False)]
)
def test_a_key_that_the_ca_refuses_is_not_offered_again_until_a_certificate_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem: str, new_key: bool
) -> None:
    for refusal in (problem, "", "rateLimited"):
        fails(monkeypatch, CaError("the CA refused", problem=refusal))
        with pytest.raises(CaError):
            ordering.issue(Heard().run(seen(store)))
    asked = signs(monkeypatch, tmp_path)
    ordering.issue(Heard().run(seen(store)))
    ordering.issue(Heard().run(seen(store)), force=True)
    assert [each.new_key for each in asked] == [new_key, False]


def test_an_order_that_fails_often_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fails(monkeypatch, CaSilentError("the CA cannot be reached while signing"))
    for _ in range(5):
        with pytest.raises(CaSilentError):
            ordering.issue(Heard().run(seen(store)))
    assert [request.anew for request in asked] == [False, False, False, True, True]
    assert [request.replacing for request in asked] == [True, True, False, False, False]


def test_what_an_order_waits_for_is_told_though_the_fleet_file_asks_for_something_else_now(
    store: Store,
) -> None:
    keep_empty(store, NAME, 1, age=70)
    tries = Tries(request_key="something else").failed(NOW, "the CA refused", order=True)
    Memory(store).note(NAME, tries=tries)
    run = Heard().run(seen(store), NOW + DAY / 2)
    coming = due.outlook(run.seen, run.known, run.now).next(run.now)
    assert coming is not None
    assert (coming.moment, coming.why) == (NOW + DAY, "the last attempt failed: the CA refused")


def test_a_chain_is_measured_by_the_roots_that_the_proof_goes_by(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = signs(monkeypatch, tmp_path)
    at = [NOW, NOW + 70 * DAY, NOW + 140 * DAY]
    ordering.issue(Heard().run(seen(store)), force=True)
    authority = replace(fleet().authority, roots="/home/somebody/roots.pem")
    render(store, fleet(authority=authority))
    ordering.issue(Heard().run(seen(store), NOW + 70 * DAY), force=True)
    ordering.issue(Heard().run(seen(store), NOW + 140 * DAY), force=True)
    ends = [each.end is not None and now >= each.end for each, now in zip(asked, at, strict=True)]
    assert [*zip((each.roots for each in asked), ends, strict=True)] == [
        (SYSTEM_ROOTS, False), (str(store.roots), False), (str(store.roots), True),
    ]  # fmt: skip

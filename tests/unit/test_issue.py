"""What becomes of an order: what is kept, what is noted, and when the next one is made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from certsync import issuance, receiver, replication
from certsync.certificate import parse_chain
from certsync.commands import issue
from certsync.errors import CertsyncError, OrderFailedError
from certsync.fleet import Fleet
from certsync.issuance import Issued
from certsync.replication import Backend
from certsync.store import Store
from tests.unit.fake_fleet import NAME, NOW, fleet, machine
from tests.unit.test_receiver import make_pair

DAY = timedelta(days=1)
UNFIT = {"ok": False, "why": "no client would take it", "of_content": True}
FULL = {"ok": False, "why": "No space left on device", "of_content": False}


class Receiver(Backend):
    """The issuer's own receiver, with one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(machine("backend-01", 11), local=True)
        self.answer = answer

    def ask(self, *_: object) -> dict[str, Any]:
        """Return the answer."""
        return self.answer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store, where challenges are known to find their way."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    monkeypatch.setattr(replication, "RUNTIME", tmp_path / "run")
    receiver.make_folder(tmp_path / "etc")
    store = Store(tmp_path / "etc", tmp_path / "state")
    store.state.mkdir()
    store.fleet_file.write_text(json.dumps(fleet().to_json(), default=str))
    monkeypatch.setattr(issue, "look_before_buying", lambda look, *_: look.fleet)
    monkeypatch.setattr(issue, "free_number", lambda _, one: 1 + max(one.numbers(NAME), default=0))
    answers(monkeypatch, {"ok": True})
    return store


def answers(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    """Let the issuer's receiver give this answer to everything."""

    @contextmanager
    def in_touch(_: Fleet) -> Iterator[Sequence[Backend]]:
        yield [Receiver(answer)]

    monkeypatch.setattr(replication, "in_touch", in_touch)


def signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Let the CA sign every order, and return what each was asked with."""
    asked: list[dict[str, Any]] = []

    def obtain(*_: object, **options: Any) -> Issued:
        asked.append(options)
        make_pair(tmp_path, days=90)
        pem = (tmp_path / "cert.pem").read_text()
        return Issued((tmp_path / "privkey.pem").read_bytes(), parse_chain(pem), "account", "order")

    monkeypatch.setattr(issuance, "obtain", obtain)
    return asked


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let every order end in an error."""

    def obtain(*_: object, **__: object) -> Issued:
        raise error

    monkeypatch.setattr(issuance, "obtain", obtain)


def unattended(store: Store, now: datetime) -> int | None:
    return issue.issue(store, now, lambda _: None, by_person=False)


def tries(store: Store) -> int:
    return store.recall().lineage(NAME).tries.count


# What the issuer's own receiver says of it


def test_what_the_issuers_own_receiver_refuses_counts_as_a_failed_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = signs(monkeypatch, tmp_path)
    answers(monkeypatch, UNFIT)
    with pytest.raises(OrderFailedError) as caught:
        unattended(store, NOW)
    assert caught.value.message == (
        "backend-01, the issuer, refuses generation 0001, which was just ordered: no client would "
        "take it"
    )
    assert (store.target(NAME), tries(store)) == (None, 1)
    with pytest.raises(CertsyncError, match="it is tried again after 2026-11-22"):
        unattended(store, NOW + timedelta(hours=1))
    answers(monkeypatch, {"ok": True})
    assert unattended(store, NOW + DAY) == 2
    assert (store.target(NAME), tries(store), len(asked)) == (2, 0, 2)


def test_a_full_disk_of_the_issuer_is_no_failed_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signs(monkeypatch, tmp_path)
    answers(monkeypatch, FULL)
    assert unattended(store, NOW) == 1
    assert (store.target(NAME), tries(store)) == (1, 0)

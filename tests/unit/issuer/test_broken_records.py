"""A record of what must not go live again, cut off or edited by hand: it ends as all guards do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer import broken_records
from certsync.issuer.ca import ordering
from certsync.issuer.memory import Memory
from certsync.issuer.replicas.answer import Answer
from certsync.issuer.run import Run
from certsync.issuer.store import Store
from certsync.model.errors import BrokenStateError, NewerSchemaError
from certsync.programs import receiver
from tests.unit.fake_fleet import NAME, NOW
from tests.unit.issuer.fake_disk import Heard, disk
from tests.unit.issuer.test_ordering import answers, signs
from tests.unit.issuer.test_run import keep_empty

DAY = timedelta(days=1)
END = NOW + 75 * DAY
"""Half-way from when the live certificate is due to its expiry."""

RECORDS = ["withdrawn", "compromised"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return an issuer's store with three generations, of which the second is live."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    store = disk(tmp_path)
    for number in (1, 2, 3):
        keep_empty(store, NAME, number)
    store.live(NAME).parent.mkdir(exist_ok=True)
    store.live(NAME).symlink_to(f"../archive/{NAME}/0002")
    return store


def cut_off(store: Store, record: str, text: str = '{"schema": 2, "ma') -> Path:
    path = store.state / f"{record}-{NAME}.json"
    path.write_text(text)
    return path


def run_at(store: Store, after: timedelta, heard: Heard) -> Run:
    fleet = store.fleet()
    session = heard.session(store, NOW + after)
    return broken_records.run_on(session, fleet, fleet.lineages[0], "")


@pytest.mark.parametrize("record", RECORDS)
def test_a_broken_record_stops_the_run_and_says_until_when(store: Store, record: str) -> None:
    path, heard = cut_off(store, record), Heard()
    with pytest.raises(BrokenStateError) as caught:
        run_at(store, 75 * DAY - timedelta(minutes=1), heard)
    assert caught.value.message == (
        f"{path} is broken; after {END:%Y-%m-%d %H:%M} UTC it is put aside, and a new key is "
        "ordered"
    )
    assert caught.value.hint == f"look at it, then remove {path}"
    assert (path.exists(), heard.told, heard.done) == (True, [], [])


@pytest.mark.parametrize("record", RECORDS)
def test_in_the_end_it_is_put_aside_and_all_but_the_live_generation_is_barred(
    store: Store, record: str
) -> None:
    path, heard = cut_off(store, record), Heard()
    seen = run_at(store, 75 * DAY, heard).seen
    aside = path.with_name(f"{path.name}.broken")
    assert (path.exists(), aside.read_text()) == (False, '{"schema": 2, "ma')
    assert (seen.barred, seen.target) == ({1, 3}, 2)
    assert heard.done == [f"moved a broken record to {aside}, and barred generations 0001, 0003"]
    assert heard.told[0].startswith(f"warning: {path} is broken: moved to {aside}, because time")
    assert run_at(store, 75 * DAY, heard).seen.barred == {1, 3}


def test_both_records_may_be_broken_at_once(store: Store) -> None:
    paths = [cut_off(store, each) for each in RECORDS]
    assert run_at(store, 75 * DAY, Heard()).seen.barred == {1, 3}
    assert [each.exists() for each in paths] == [False, False]


def test_without_a_live_link_nothing_that_is_kept_goes_live_again(store: Store) -> None:
    cut_off(store, "compromised")
    store.live(NAME).unlink()
    seen = run_at(store, 75 * DAY, Heard()).seen
    assert (seen.barred, seen.target) == ({1, 2, 3}, None)


def test_a_record_of_a_newer_version_ends_too(store: Store) -> None:
    path = cut_off(store, "compromised", '{"schema": 9}')
    with pytest.raises(NewerSchemaError):
        run_at(store, DAY, Heard())
    run_at(store, 75 * DAY, Heard())
    assert not path.exists()


def test_where_the_power_fails_on_the_way_the_next_run_does_all_of_it_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut_off(store, "compromised")
    monkeypatch.setattr(broken_records, "put_aside", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_at(store, 75 * DAY, Heard())
    monkeypatch.undo()
    monkeypatch.setattr(receiver, "HOME", store.root)
    assert path.exists()
    assert run_at(store, 75 * DAY, Heard()).seen.barred == {1, 3}


@pytest.mark.parametrize("record", RECORDS)
def test_the_next_certificate_gets_a_new_key_however_often_its_order_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: str
) -> None:
    monkeypatch.setattr(ordering, "look_before_buying", lambda run, _: run.seen.lineage)
    monkeypatch.setattr(ordering, "free_number", lambda one: 1 + max(one.seen.numbers))
    cut_off(store, record)
    (store.pending(NAME)).mkdir(parents=True)
    run = run_at(store, 75 * DAY, Heard())
    assert not store.pending(NAME).exists()
    assert Memory(store).of(NAME).new_key
    asked = signs(monkeypatch, tmp_path)
    answers(monkeypatch, Answer(ok=True))
    assert ordering.issue(run) == 4
    assert [each.new_key for each in asked] == [True]
    assert not Memory(store).of(NAME).new_key

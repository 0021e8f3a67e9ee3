"""Several lineages in one fleet: the same for each, and none holds another one up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer.ca.due import has_something
from certsync.issuer.memory import Memory
from certsync.issuer.monitoring.afterwards import Ended, afterwards
from certsync.issuer.replicas import replicate
from certsync.issuer.run import Run, together
from certsync.issuer.situation import look_at_all, named
from certsync.issuer.state import Known, LineageState, State
from certsync.issuer.store import Store, sums
from certsync.model.errors import CaError, CertsyncError, LaterError, StoreError
from certsync.model.options import Event, KeyType, Notify
from certsync.programs.receiver import MANIFEST, PEM_FILES
from tests.unit.fake_fleet import NAME, NOW, fleet, lineage, manifest
from tests.unit.issuer.fake_disk import Heard, disk

SHOP = "shop.example.net"
WANTED = lineage(
    SHOP, f"www.{SHOP}", serving=("backend-03",), key_type=KeyType.RSA_2048
)  # fmt: skip
BOTH = (lineage(), WANTED)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an issuer's store of a fleet with two lineages."""
    return disk(tmp_path, fleet(lineages=BOTH))


def test_each_lineage_is_a_fleet_with_its_own_names_and_backends() -> None:
    made = fleet(lineages=BOTH)
    first, shop = made.lineages
    assert (made.name, first.name, shop.name) == (NAME, NAME, SHOP)
    assert shop.key_type is KeyType.RSA_2048
    assert [each.name for each in made.members(shop)] == ["backend-03"]
    # The issuer orders it, and so has it on its disk.
    assert [each.name for each in made.holders(shop)] == ["backend-01", "backend-03"]
    assert made.members(first) == made.holders(first) == made.backends


def test_the_rendered_fleet_tells_of_all_lineages(store: Store) -> None:
    assert store.fleet().lineages == BOTH
    assert [each.name for each in look_at_all(store)] == [NAME, SHOP]
    assert look_at_all(store)[1].lineage.names == WANTED.names


def test_one_that_fails_stops_no_other_and_all_are_told_by_name(store: Store) -> None:
    heard = Heard()
    session = heard.session(store)

    def work(run: Run) -> None:
        run.tell("hello")
        if run.name == NAME:
            raise CaError("it refuses", "ask it")
        run.did("ordered")

    with pytest.raises(CaError) as caught:
        session.each(work)
    assert (caught.value.message, caught.value.hint) == (f"{NAME}: it refuses", "ask it")
    assert heard.told == [f"{NAME}: hello", f"{SHOP}: hello"]
    assert session.done == [f"{SHOP}: ordered"]


def test_one_whose_disk_cannot_be_read_stops_no_other(store: Store) -> None:
    broken(store)
    seen = list[str]()
    with pytest.raises(StoreError, match=rf"^{NAME}: .* is broken"):
        Heard().session(store).each(lambda run: seen.append(run.name))
    assert seen == [SHOP]


def broken(store: Store) -> None:
    """Break what the disk says of the first lineage."""
    (store.state / f"withdrawn-{NAME}.json").write_text("{")


def test_a_fleet_with_one_lineage_is_told_of_without_its_name(tmp_path: Path) -> None:
    only = Heard().session(disk(tmp_path))
    only.each(lambda run: run.did("ordered"))
    assert only.done == ["ordered"]
    assert named(look_at_all(only.store), lambda _: ["a", "b"]) == ["a", "b"]


def test_what_is_said_of_each_of_several_has_its_name(store: Store) -> None:
    lines = named(look_at_all(store), lambda seen: [seen.name[:4]])
    assert lines == [f"{NAME}: pass", f"{SHOP}: shop"]


def test_of_several_problems_the_worst_gives_the_exit_status_and_none_is_told_twice() -> None:
    later, bad = LaterError("later", "wait"), CertsyncError("bad", "mend")
    assert together([]) is None
    assert together([later]) is later
    both = together([later, bad, CertsyncError("bad", "mend")])
    assert both is not None
    assert (type(both), both.message, both.hint) == (CertsyncError, "later; bad", "mend")


def test_a_rollback_has_to_say_of_which(store: Store, tmp_path: Path) -> None:
    session = Heard().session(store)
    assert session.only(SHOP).name == SHOP
    with pytest.raises(StoreError) as caught:
        session.only()
    assert caught.value.message == "this fleet has several lineages"
    assert caught.value.hint == f"choose one with --lineage: {NAME}, {SHOP}"
    with pytest.raises(StoreError) as caught:
        session.only("else.example.org")
    assert caught.value.message == "this fleet has no lineage else.example.org"
    assert caught.value.hint == f"name one of: {NAME}, {SHOP}"
    (tmp_path / "other").mkdir()
    assert Heard().session(disk(tmp_path / "other")).only().name == NAME


# What people are told


LONG_AGO = NOW - timedelta(days=3)


def test_what_people_were_told_of_one_lineage_is_not_over_because_another_is_well(
    tmp_path: Path,
) -> None:
    made = fleet(lineages=BOTH, notify=Notify((Event.BEHIND,)))
    session = Heard().session(disk(tmp_path, made))
    memory = session.memory
    behind = LineageState(backends={"backend-02": Known(behind_since=LONG_AGO)})
    well = LineageState(backends={"backend-03": Known()})
    memory.keep(State({NAME: behind, SHOP: well}))
    runs = [Ended(each.name, None, []) for each in made.lineages]
    for _ in range(2):
        afterwards(session, made, runs, None)
        (alert,) = memory.state.alerts
        assert (alert["lineage"], alert["key"]) == (NAME, "behind backend-02")
    memory.keep(replace(memory.state, lineages={NAME: well, SHOP: behind}))
    afterwards(session, made, runs, None)
    assert {each["lineage"] for each in Memory(session.store).state.alerts} >= {SHOP}


def test_what_people_were_told_of_a_lineage_that_was_taken_out_is_forgotten(
    tmp_path: Path,
) -> None:
    made = fleet(notify=Notify((Event.BEHIND,)))
    session = Heard().session(disk(tmp_path, made))
    alert = {"key": "behind backend-03", "event": "behind", "since": LONG_AGO.isoformat()}
    session.memory.keep(State(alerts=({**alert, "told": True, "lineage": SHOP},)))
    afterwards(session, made, [Ended(NAME, None, [])], None)
    assert Memory(session.store).state.alerts == ()


# Lineages without a certificate


@pytest.fixture
def replicated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the lineages that are replicated from here on."""
    names = list[str]()
    monkeypatch.setattr(replicate, "replicate", lambda run, _missed: names.append(run.name))
    return names


def test_one_lineage_without_a_certificate_holds_up_no_other(
    store: Store, replicated: list[str]
) -> None:
    assert not has_something(look_at_all(store))
    replicate.replicate_all(Heard().session(store))
    assert replicated == [NAME, SHOP]
    keep_empty(store, NAME, 1)
    assert has_something(look_at_all(store))
    heard = Heard()
    replicate.replicate_all(heard.session(store))
    assert replicated == [NAME, SHOP, NAME]
    assert heard.told == [f"{SHOP}: nothing to replicate: no generation has been issued yet"]


def test_an_only_lineage_without_a_certificate_is_an_error_as_ever(
    tmp_path: Path, replicated: list[str]
) -> None:
    only = disk(tmp_path)
    assert not has_something(look_at_all(only))
    replicate.replicate_all(Heard().session(only))
    assert replicated == [NAME]


def test_a_lineage_that_cannot_be_read_keeps_no_other_from_being_replicated(
    store: Store, replicated: list[str]
) -> None:
    keep_empty(store, SHOP, 1)
    broken(store)
    with pytest.raises(StoreError, match=rf"^{NAME}: .* is broken"):
        replicate.replicate_all(Heard().session(store))
    assert replicated == [SHOP]


def keep_empty(store: Store, name: str, number: int, **changes: float) -> None:
    """Keep a generation, whole, though nothing in it is a key or a certificate."""
    folder = store.archive(name) / f"{number:04}"
    folder.mkdir(parents=True)
    files = {file: file.encode() for file in PEM_FILES}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    made = manifest(number, lineage=name, files=sums(files), **changes)
    (folder / MANIFEST).write_bytes(made.to_json())

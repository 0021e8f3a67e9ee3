"""Several lineages in one fleet: the same for each, and none holds another one up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer.ca.due import has_something
from certsync.issuer.lineages import Tell, chosen, each_lineage, named, together
from certsync.issuer.monitoring.afterwards import Ended, afterwards
from certsync.issuer.replicas.replicate import is_one_of_several_without_any
from certsync.issuer.state import Known, Lineage, State
from certsync.issuer.store import Store, sums
from certsync.model.errors import CaError, CertsyncError, LaterError, StoreError
from certsync.model.fleet import Fleet, Wanted
from certsync.model.options import Event, KeyType, Notify, Site
from certsync.programs.receiver import MANIFEST, PEM_FILES
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest

SHOP = "shop.example.net"
WANTED = Wanted((SHOP, f"www.{SHOP}"), ("backend-03",), KeyType.RSA_2048, "", False, Site())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an issuer's store of a fleet with two lineages."""
    return kept(fleet(others=(WANTED,)), tmp_path)


def kept(made: Fleet, folder: Path) -> Store:
    found = Store(folder / "etc", folder / "state")
    found.root.mkdir()
    found.fleet_file.write_text(json.dumps(made.to_json(), default=str))
    return found


def test_each_lineage_is_a_fleet_with_its_own_names_and_backends() -> None:
    first, shop = fleet(others=(WANTED,)).lineages
    assert (first.lineage, shop.lineage) == (NAME, SHOP)
    assert (first.others, shop.others) == ((), ())
    assert shop.key_type is KeyType.RSA_2048
    assert [each.name for each in shop.members] == ["backend-03"]
    # The issuer orders it, and so has it on its disk.
    assert [each.name for each in shop.holders] == ["backend-01", "backend-03"]
    assert first.members == first.holders == first.backends


def test_the_rendered_fleet_tells_of_all_lineages(store: Store) -> None:
    assert store.fleet().others == (WANTED,)
    assert [each.fleet().lineage for each in store.lineages()] == [NAME, SHOP]
    assert store.lineages()[1].fleet().names == WANTED.names


def test_one_that_fails_stops_no_other_and_all_are_told_by_name(store: Store) -> None:
    told, done = list[str](), list[str]()

    def work(one: Store, tell: Tell, did: list[str]) -> None:
        tell("hello")
        if one.lineage == NAME:
            raise CaError("it refuses", "ask it")
        did.append("ordered")

    with pytest.raises(CaError) as caught:
        each_lineage(store, told.append, done, work)
    assert (caught.value.message, caught.value.hint) == (f"{NAME}: it refuses", "ask it")
    assert told == [f"{NAME}: hello", f"{SHOP}: hello"]
    assert done == [f"{SHOP}: ordered"]


def test_a_fleet_with_one_lineage_is_told_of_without_its_name(tmp_path: Path) -> None:
    done = list[str]()
    only = kept(fleet(), tmp_path)
    each_lineage(only, print, done, lambda _one, _tell, did: did.append("ordered"))
    assert done == ["ordered"]
    assert named(only, lambda _: ["a", "b"]) == ["a", "b"]


def test_what_is_said_of_each_of_several_has_its_name(store: Store) -> None:
    assert named(store, lambda one: [one.lineage[:4]]) == [f"{NAME}: pass", f"{SHOP}: shop"]


def test_of_several_problems_the_worst_gives_the_exit_status_and_none_is_told_twice() -> None:
    later, bad = LaterError("later", "wait"), CertsyncError("bad", "mend")
    assert together([]) is None
    assert together([later]) is later
    both = together([later, bad, CertsyncError("bad", "mend")])
    assert both is not None
    assert (type(both), both.message, both.hint) == (CertsyncError, "later; bad", "mend")


def test_a_rollback_has_to_say_of_which(store: Store, tmp_path: Path) -> None:
    assert chosen(store, SHOP).lineage == SHOP
    with pytest.raises(StoreError) as caught:
        chosen(store, "")
    assert caught.value.message == "this fleet has several lineages"
    assert caught.value.hint == f"say which: --lineage, one of: {NAME}, {SHOP}"
    with pytest.raises(StoreError) as caught:
        chosen(store, "else.example.org")
    assert caught.value.message == "this fleet has no lineage else.example.org"
    assert caught.value.hint == f"name one of: {NAME}, {SHOP}"
    (tmp_path / "other").mkdir()
    assert chosen(kept(fleet(), tmp_path / "other"), "").lineage == NAME


def test_what_people_were_told_of_one_lineage_is_not_over_because_another_is_well(
    tmp_path: Path,
) -> None:
    made = fleet(others=(WANTED,), notify=Notify((Event.BEHIND,)))
    store = kept(made, tmp_path)
    long_ago = (NOW - timedelta(days=3)).isoformat()
    behind = Lineage(backends={"backend-02": Known(behind_since=long_ago)})
    well = Lineage(backends={"backend-03": Known()})
    store.remember(State({NAME: behind, SHOP: well}))
    runs = [Ended(one, None, []) for one in store.lineages()]
    for _ in range(2):
        afterwards(runs, NOW, None, lambda _: None)
        (alert,) = store.recall().alerts
        assert (alert["lineage"], alert["key"]) == (NAME, "behind backend-02")
    store.remember(replace(store.recall(), lineages={NAME: well, SHOP: behind}))
    afterwards(runs, NOW, None, lambda _: None)
    assert {each["lineage"] for each in store.recall().alerts} >= {SHOP}


def test_what_people_were_told_of_a_lineage_that_was_taken_out_is_forgotten(
    tmp_path: Path,
) -> None:
    store = kept(fleet(notify=Notify((Event.BEHIND,))), tmp_path)
    long_ago = (NOW - timedelta(days=3)).isoformat()
    alert = {"key": "behind backend-03", "event": "behind", "since": long_ago, "told": True}
    store.remember(State(alerts=({**alert, "lineage": SHOP},)))
    afterwards([Ended(one, None, []) for one in store.lineages()], NOW, None, lambda _: None)
    assert store.recall().alerts == ()


def test_one_lineage_without_a_certificate_holds_up_no_other(store: Store) -> None:
    first, shop = store.lineages()
    assert not has_something(store)
    assert not is_one_of_several_without_any(shop)
    keep(first, 1)
    assert has_something(store)
    assert is_one_of_several_without_any(shop)
    assert not is_one_of_several_without_any(first)


def test_an_only_lineage_without_a_certificate_is_an_error_as_ever(tmp_path: Path) -> None:
    only = kept(fleet(), tmp_path)
    assert not has_something(only)
    (one,) = only.lineages()
    assert not is_one_of_several_without_any(one)


def keep(one: Store, number: int) -> None:
    folder = one.archive(one.lineage) / f"{number:04}"
    folder.mkdir(parents=True)
    files = {name: name.encode() for name in PEM_FILES}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    made = manifest(number, lineage=one.lineage, files=sums(files))
    (folder / MANIFEST).write_bytes(made.to_json())

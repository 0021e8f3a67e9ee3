"""Whether an issuer whose push key is refused may go on, and who is left out if it may."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from certsync.issuer import canary
from certsync.issuer.canary import Sighting, leads_here
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import admission, fence
from certsync.issuer.replicas.fence import LEFT_OUT, Fence, is_exception
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.state import LineageState, State
from certsync.issuer.store import Store
from certsync.model.epoch import Epoch
from certsync.model.errors import BrokenStateError, FencedError
from certsync.system import proving
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest
from tests.unit.issuer.fake_disk import Heard, disk, seen, situation

DAY = timedelta(days=1)
ISSUER = Standing("backend-01", reached=True)
HERE, THERE = Standing("backend-02", reached=True), Standing("backend-02", reached=False)
REFUSES = Standing("backend-02", reached=False, refuses_key=True)


PUBLIC, PUBLIC6 = "203.0.113.10", "2001:db8:113::10"


def sighting(where: str, *, reached: bool = True, seen: bool = True) -> Sighting:
    return Sighting(where, where, where in (PUBLIC, PUBLIC6), reached, seen, "")


OURS = [sighting(PUBLIC), sighting("backend-02"), sighting("backend-03")]
ANOTHERS = [sighting(PUBLIC, seen=False)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an issuer's store."""
    return Store(tmp_path, tmp_path)


@pytest.fixture(autouse=True)
def _challenges(monkeypatch: pytest.MonkeyPatch) -> None:
    lead(monkeypatch, ANOTHERS)
    monkeypatch.setattr(proving, "prove", lambda *_: [])


def lead(monkeypatch: pytest.MonkeyPatch, sightings: Sequence[Sighting]) -> None:
    """Let challenges be seen to lead this way."""
    monkeypatch.setattr(canary, "look", lambda *_: list(sightings))


def check_not_fenced(store: Store, *replicas: Standing, now: datetime = NOW) -> dict[str, str]:
    """Heed the fence for what the replicas said just now."""
    return admission.check_not_fenced(Heard().run(seen(store, fleet()), now), [ISSUER, *replicas])


def refusing(*names: str) -> list[Standing]:
    return [Standing(name, reached=False, refuses_key=True) for name in names]


def reached(*names: str) -> list[Standing]:
    return [Standing(name, reached=True) for name in names]


def test_replicas_that_refuse_the_push_key_fence_the_issuer(store: Store) -> None:
    check_not_fenced(store, *reached("backend-03", "backend-02"))
    with pytest.raises(FencedError) as caught:
        check_not_fenced(store, *refusing("backend-03", "backend-02"))
    assert caught.value.message == (
        "backend-02, backend-03 refuse this issuer's push key: nothing was ordered or activated"
    )
    assert caught.value.hint == (
        "if another backend was promoted, run `certsync promote FLEET NAME` again to demote this "
        "one; if not, run `certsync deploy FLEET` (challenges no longer arrive here)"
    )
    assert caught.value.exit_status == 1


def test_one_that_has_never_accepted_the_key_fences_nobody_to_whom_challenges_lead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        lead(patched, OURS)
        check_not_fenced(store, REFUSES)
        check_not_fenced(store, REFUSES)
    check_not_fenced(store, HERE)
    with pytest.raises(FencedError, match=r"^backend-02 refuses this issuer's push key: nothing"):
        check_not_fenced(store, REFUSES)


def test_one_that_has_left_the_fleet_and_joins_again_begins_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(monkeypatch, OURS)
    check_not_fenced(store, HERE)
    check_not_fenced(store)
    check_not_fenced(store, REFUSES)


def test_one_that_refused_the_key_refuses_it_until_it_is_reached_again(store: Store) -> None:
    check_not_fenced(store, HERE)
    check_not_fenced(store, THERE)
    for replica in (REFUSES, THERE):
        with pytest.raises(FencedError, match=r"^backend-02 refuses"):
            check_not_fenced(store, replica)
        assert store.fence(NAME).refused == {"backend-02": NOW}
    check_not_fenced(store, HERE)
    assert store.fence(NAME).refused == {}
    check_not_fenced(store, THERE)


def test_one_that_has_been_silent_for_a_week_since_fences_nobody(store: Store) -> None:
    check_not_fenced(store, HERE)
    for now in (NOW, NOW + 3 * DAY):
        with pytest.raises(FencedError):
            check_not_fenced(store, REFUSES, now=now)
    with pytest.raises(FencedError):
        check_not_fenced(store, THERE, now=NOW + 9 * DAY)
    assert check_not_fenced(store, THERE, now=NOW + 10 * DAY) == {}
    assert check_not_fenced(store, THERE, now=NOW + 10 * DAY) == {}


def test_a_refusal_that_a_wrong_clock_has_noted_ends_too(store: Store) -> None:
    store.keep_fence(NAME, Fence({"backend-02": NOW + 365 * DAY}, ("backend-02",)))
    with pytest.raises(FencedError):
        check_not_fenced(store, THERE)
    assert check_not_fenced(store, THERE, now=NOW + 8 * DAY) == {}


def test_one_that_is_merely_out_of_reach_fences_nobody(store: Store) -> None:
    check_not_fenced(store, HERE)
    assert check_not_fenced(store, Standing("backend-02", reached=False, why="no route")) == {}


# One bad replica


def test_one_refusal_beside_others_is_one_bad_replica_while_challenges_come_here(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = reached("backend-02", "backend-03")
    check_not_fenced(store, *both)
    one = [*refusing("backend-02"), *reached("backend-03")]
    with pytest.raises(FencedError):
        check_not_fenced(store, *one)
    lead(monkeypatch, OURS)
    assert check_not_fenced(store, *one) == {"backend-02": LEFT_OUT}
    assert "AllowUsers" in LEFT_OUT
    with pytest.raises(FencedError):
        check_not_fenced(store, *refusing("backend-02", "backend-03"))


ONE, TWO, THREE = ["backend-02"], ["backend-02", "backend-03"], ["backend-03", "backend-04"]


@pytest.mark.parametrize(
    ("refusing", "accepting", "leads_here", "late", "exception"),
    [
        pytest.param(ONE, ["backend-03"], True, False, True, id="one of two"),
        pytest.param(ONE, ["backend-03"], None, False, False, id="nobody can say where they go"),
        pytest.param(ONE, ["backend-03"], None, True, True, id="unless time runs out"),
        pytest.param(ONE, THREE, False, True, False, id="they go elsewhere"),
        pytest.param(TWO, [], True, False, False, id="all of two"),
        pytest.param(TWO, [], True, True, True, id="all of two, and time runs out"),
        pytest.param(TWO, [], None, True, False, id="nothing speaks for this issuer"),
        pytest.param(ONE, [], None, True, False, id="the only one"),
    ],
)
def test_two_witnesses_speak_for_an_issuer_and_in_the_end_one_is_enough(
    refusing: list[str], accepting: list[str], leads_here: bool | None, late: bool, exception: bool
) -> None:
    assert is_exception(refusing, accepting, leads_here, late=late) is exception


@pytest.mark.parametrize(
    ("sightings", "early", "late"),
    [
        pytest.param(OURS, True, True, id="the public address leads here"),
        pytest.param([*OURS, sighting(PUBLIC6, seen=False)], False, True, id="one of two does"),
        pytest.param(ANOTHERS, False, False, id="it leads elsewhere"),
        pytest.param(
            [sighting(PUBLIC, reached=False, seen=False), sighting("backend-02")],
            True, True, id="it cannot be reached, and the replica that refuses leads here",
        ),
        pytest.param([sighting("backend-02", seen=False)], None, None, id="a hostile replica"),
        pytest.param([sighting("backend-03")], None, None, id="another replica says nothing"),
        pytest.param([], None, None, id="nobody says anything"),
    ],
)  # fmt: skip
def test_where_challenges_lead(
    sightings: list[Sighting], early: bool | None, late: bool | None
) -> None:
    assert leads_here(sightings, ["backend-02"], late=False) is early
    assert leads_here(sightings, ["backend-02"], late=True) is late


def test_time_runs_out_for_a_damaged_live_generation_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lead(monkeypatch, OURS)
    found = situation(manifest(2, days=90), numbers=[2, 3], current=3)
    with pytest.raises(FencedError):
        admission.leave_out(Heard().run(found, NOW + 74 * DAY), TWO, [])
    assert set(admission.leave_out(Heard().run(found, NOW + 75 * DAY), TWO, [])) == set(TWO)


def test_time_runs_out_for_a_live_generation_that_the_ca_has_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lead(monkeypatch, OURS)
    run = Heard().run(situation(manifest(2)))
    with pytest.raises(FencedError):
        admission.leave_out(run, TWO, [])
    revoked = State({NAME: LineageState(revoked=manifest(2).fingerprint)})
    run.memory = Memory(run.seen.store, revoked)
    assert set(admission.leave_out(run, TWO, [])) == set(TWO)


# What is remembered


def test_what_is_remembered_is_read_as_it_was_written(store: Store) -> None:
    kept = Fence({"backend-02": NOW}, ("backend-02", "backend-03"))
    store.keep_fence(NAME, kept)
    assert store.fence(NAME) == kept


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", json.dumps({"schema": 1, "refused": {"backend-02": "soon"}}),
     json.dumps({"schema": 1, "refused": {"backend-02": "2026-11-21T12:00:00"}}),
     json.dumps({"schema": 1, "accepted": "backend-02"}), "[" * 100_000],
)  # fmt: skip
def test_a_broken_memory_of_refusals_stops_the_run_while_there_is_time(
    store: Store, text: str
) -> None:
    (store.state / f"fence-{NAME}.json").write_text(text)
    with pytest.raises(BrokenStateError, match=r"fence-.*\.json is broken"):
        check_not_fenced(store, HERE)


@pytest.mark.parametrize("seen_there", [OURS, ANOTHERS], ids=["here", "elsewhere"])
def test_in_the_end_it_is_put_aside_and_every_refusal_of_today_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen_there: list[Sighting]
) -> None:
    lead(monkeypatch, seen_there)
    path = disk(tmp_path).fence_file(NAME)
    path.write_text("{")
    heard, found = Heard(), situation(manifest(2), store=Store(tmp_path / "etc", path.parent))
    with pytest.raises(BrokenStateError):
        admission.check_not_fenced(heard.run(found, NOW + 74 * DAY), [ISSUER, REFUSES])
    run = heard.run(found, NOW + 75 * DAY)
    if seen_there is ANOTHERS:
        with pytest.raises(FencedError, match="backend-02 refuses this issuer's push key"):
            admission.check_not_fenced(run, [ISSUER, REFUSES])
    else:
        assert admission.check_not_fenced(run, [ISSUER, REFUSES]) == {"backend-02": LEFT_OUT}
    assert heard.done == [f"moved a broken record of refused push keys to {path}.broken"]
    assert run.seen.store.fence(NAME).accepted == ("backend-02",)


@pytest.mark.parametrize("seen_there", [OURS, ANOTHERS], ids=["here", "elsewhere"])
def test_a_refusal_by_one_that_never_accepted_counts_where_challenges_lead_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen_there: list[Sighting]
) -> None:
    lead(monkeypatch, seen_there)
    run = Heard().run(seen(disk(tmp_path)))
    refuses = Standing("backend-02", reached=False, why="no", refuses_key=True)
    if seen_there is ANOTHERS:
        with pytest.raises(FencedError, match="backend-02 refuses this issuer's push key"):
            admission.check_not_fenced(run, [refuses])
    else:
        assert admission.check_not_fenced(run, [refuses]) == {}
    accepts = Standing("backend-03", reached=True)
    assert admission.check_not_fenced(run, [refuses, accepts]) == {}


OWN = Epoch(2, "f1" * 16)
LATER = {"backend-02": replace(OWN, number=3)}


def test_a_replica_with_a_later_epoch_counts_as_one_that_refuses() -> None:
    says = [replace(HERE, epoch=LATER["backend-02"]), Standing("backend-03", reached=True)]
    assert fence.later_than(OWN, says) == LATER
    assert fence.later_than(None, says) == {}
    assert fence.later_than(OWN, [replace(HERE, epoch=OWN)]) == {}
    kept = Fence().seeing(says, NOW, LATER)
    assert kept.refused == {"backend-02": NOW}
    assert Fence().seeing(says, NOW).refused == {}


def test_an_issuer_that_was_replaced_is_told_by_whom_and_what_it_may_be() -> None:
    error = fence.replaced(OWN, LATER, leads_here=False)
    assert error.message == (
        "backend-02 accepts the issuer of epoch 3, and this one is of epoch 2: "
        "nothing was ordered or activated"
    )
    assert "restored from a backup or snapshot" in error.hint
    other = {"backend-02": Epoch(1, "0e" * 16)}
    assert "accepts the issuer of another fleet" in fence.replaced(OWN, other, None).message

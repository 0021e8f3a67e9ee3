"""What is remembered between runs, and what is made of a state that is not what was written."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.memory import Memory
from certsync.issuer.monitoring import alerts
from certsync.issuer.monitoring.alerts import Alert
from certsync.issuer.state import REMEMBERED, Known, LineageState, State
from certsync.issuer.store import STATE_SCHEMA, Store
from certsync.model.answers import PastRun
from certsync.model.errors import NewerSchemaError
from certsync.model.options import Event
from certsync.model.proof import Proof, Verdict
from tests.unit.fake_fleet import NAME, NOW

GOOD = Proof("backend-01", Verdict.IN_SYNC, "0002", "aa", NOW.isoformat(), "")
BEHIND = Proof("backend-02", Verdict.BEHIND, "0001", "bb", NOW.isoformat(), "it serves 0001")
SILENT = Proof("backend-02", Verdict.UNREACHABLE, "", "", "", "no answer")


HOUR = timedelta(hours=1)


def run(exit_status: int = 0, *did: str, error: str = "", at: datetime = NOW) -> PastRun:
    return PastRun("renew", at, exit_status, error, "", tuple(did))


def full() -> State:
    """Return a state with something of everything."""
    advice = RenewalInfo("aa", NOW, NOW, NOW, NOW + HOUR)
    lineage = LineageState(
        generation="0002", why="so", mixed_seconds=1.5, renewal_info=advice,
        tries=Tries().failed(NOW, "no answer", order=True), backends={"a": Known("0002")},
    )  # fmt: skip
    return State({NAME: lineage}, alerts=({"key": "x"},)).ended(run(0, "did it"))


def test_state_is_read_as_it_was_written() -> None:
    text = json.dumps(full().to_json())
    assert State.from_json(json.loads(text)) == full()
    assert State.from_json({}) == State()


def test_a_backend_is_known_by_what_it_was_last_seen_to_serve() -> None:
    later = NOW + timedelta(hours=1)
    known = LineageState().seen([GOOD, BEHIND], ("backend-02",), NOW)
    assert known.backends["backend-01"] == Known("0002", NOW, NOW)
    assert known.backends["backend-02"] == Known("0001", NOW, None, NOW, NOW, "it serves 0001")
    after = known.seen([GOOD, SILENT], (), later).backends["backend-02"]
    assert (after.generation, after.seen, after.behind_since, after.pushed, after.error) == (
        "0001", NOW, NOW, NOW, "no answer"
    )  # fmt: skip


def test_a_backend_that_is_in_sync_again_is_behind_no_longer() -> None:
    later = NOW + timedelta(hours=1)
    healed = Proof("backend-02", Verdict.IN_SYNC, "0002", "aa", "", "")
    known = LineageState().seen([BEHIND], (), NOW).seen([healed], (), later).backends["backend-02"]
    assert (known.behind_since, known.in_sync, known.error) == (None, later, "")


def test_a_moment_that_a_wrong_clock_noted_puts_off_nothing() -> None:
    ahead = LineageState().seen([BEHIND], (), NOW + timedelta(days=30))
    known = ahead.seen([BEHIND], (), NOW).backends["backend-02"]
    assert known.behind_since == NOW


def test_a_backend_that_left_the_fleet_is_forgotten() -> None:
    known = LineageState().seen([GOOD, BEHIND], (), NOW).seen([GOOD], (), NOW)
    assert set(known.backends) == {"backend-01"}


def test_of_runs_that_did_nothing_and_ended_alike_only_the_last_is_history() -> None:
    state, first, second, third = State(), NOW + HOUR, NOW + 2 * HOUR, NOW + 3 * HOUR
    for each in (
        run(0, "ordered"), run(at=first), run(at=second), run(1, error="x"), run(at=third),
    ):  # fmt: skip
        state = state.ended(each)
    assert [each.at for each in state.history] == [NOW, second, NOW, third]
    assert state.last_success == third
    assert state.runs["renew"].at == third


def test_history_has_an_end() -> None:
    state = State()
    for number in range(REMEMBERED + 10):
        state = state.ended(run(0, str(number)))
    assert len(state.history) == REMEMBERED


def test_state_of_a_newer_certsync_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    text = json.dumps({"schema": STATE_SCHEMA + 1, "lineages": "another shape"})
    store.state_file.write_text(text)
    with pytest.raises(NewerSchemaError) as caught:
        assert Memory(store).state
    assert caught.value.message == (
        f"{store.state_file} has schema {STATE_SCHEMA + 1}, but this certsync reads up to "
        f"{STATE_SCHEMA}"
    )
    assert caught.value.hint == "a newer certsync wrote it: deploy again with that version"
    assert store.state_file.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 1, "lineages": 7}',
        '{"schema": 1, "lineages": {"a": {"asked_all": "soon", "backends": {}, "advice": null}}}',
        '{"schema": 1, "history": [{"verb": "x"}]}',
        '{"schema": 1, "history": [{"verb": "x", "at": "2026-11-21T12:00:00", "exit": 0}]}',
    ],
)
def test_state_that_is_broken_is_forgotten_because_all_in_it_can_be_found_anew(
    tmp_path: Path, text: str
) -> None:
    store = Store(tmp_path, tmp_path)
    store.state_file.write_text(text)
    memory = Memory(store)
    assert memory.state == State()
    memory.keep(full())
    assert Memory(store).state == full()


# Of schema 1, which had empty texts for moments that are not known


AT = NOW.isoformat()
LATER = (NOW + HOUR).isoformat()
OLD_RUN = {"verb": "renew", "at": AT, "exit": 1, "error": "x", "hint": "look", "did": ["a"]}
OLD_LINEAGE = {
    "generation": "0002", "not_before": AT, "not_after": LATER, "next_check": "",
    "next_renewal": LATER, "why": "so", "mixed_seconds": 1.5, "asked_all": AT,
    "hurried": AT, "fenced_by": ["backend-02"], "let_in_by": ["backend-02", "backend-03"],
    "revoked": "", "revocation_asked": "",
    "advice": {
        "fingerprint": "aa", "start": AT, "end": LATER, "explanation": "", "asked": AT,
        "ask_again": LATER,
    },
    "tries": {
        "count": 1, "last": AT, "orders": [AT], "ca_said": "", "error": "no answer", "hint": "",
        "exit_status": 75, "wish": "w", "problem": "",
    },
    "backends": {
        "backend-01": {
            "generation": "0002", "seen": AT, "in_sync": AT, "behind_since": "", "pushed": "",
            "error": "",
        },
        "backend-02": {
            "generation": "0001", "seen": AT, "in_sync": "", "behind_since": AT, "pushed": AT,
            "error": "it serves 0001",
        },
    },
}  # fmt: skip
OLD_ALERT = {
    "key": "behind backend-02", "event": "behind", "since": AT, "told": True, "lineage": NAME,
}  # fmt: skip


def written_before(**lineage: object) -> str:
    """Return a state file as the version before wrote it."""
    return json.dumps({
        "schema": 1, "lineages": {NAME: {**OLD_LINEAGE, **lineage}}, "runs": {"renew": OLD_RUN},
        "history": [OLD_RUN], "alerts": [OLD_ALERT], "last_success": "",
    })  # fmt: skip


def test_state_of_the_version_before_is_read_without_loss(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    store.state_file.write_text(written_before())
    memory = Memory(store)
    assert memory.put_broken_aside() is None
    past = PastRun("renew", NOW, 1, "x", "look", ("a",))
    assert (memory.state.runs, memory.state.history) == ({"renew": past}, (past,))
    assert memory.state.last_success is None
    alert = Alert("behind backend-02", Event.BEHIND, NOW, told=True)
    assert alerts.read(memory.state.alerts) == (alert,)
    assert memory.state.alerts[0]["lineage"] == NAME
    assert memory.of(NAME) == LineageState(
        generation="0002", not_before=NOW, not_after=NOW + HOUR, next_renewal=NOW + HOUR, why="so",
        renewed_early_at=NOW,
        mixed_seconds=1.5, asked_all=NOW,
        renewal_info=RenewalInfo("aa", NOW, NOW + HOUR, NOW, NOW + HOUR),
        tries=Tries(1, NOW, (NOW,), error="no answer", exit_status=75, request_key="w"),
        backends={
            "backend-01": Known("0002", NOW, NOW),
            "backend-02": Known("0001", NOW, None, NOW, NOW, "it serves 0001"),
        },
    )  # fmt: skip


def test_advice_without_a_window_of_the_version_before_has_none(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    none = {"fingerprint": "aa", "start": "", "end": "", "explanation": "", "asked": AT}
    store.state_file.write_text(written_before(renewal_info={**none, "ask_again": LATER}))
    advice = Memory(store).of(NAME).renewal_info
    assert advice == RenewalInfo("aa", NOW, NOW + HOUR)
    assert advice.window is None


def test_a_lineage_of_which_the_version_before_knew_nothing_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path)
    blank = dict.fromkeys(
        ("generation", "not_before", "not_after", "next_renewal", "why", "asked_all", "hurried"), ""
    )
    tries = {"count": 0, "last": "", "orders": [], "ca_said": "", "error": "", "exit_status": 1}
    nothing = {"mixed_seconds": None, "advice": None, "tries": tries, "backends": {}}
    store.state_file.write_text(written_before(**blank, **nothing))
    assert Memory(store).of(NAME) == LineageState()

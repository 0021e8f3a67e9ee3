"""What is remembered between runs, and what is made of a state that is not what was written."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.state import REMEMBERED, Known, Lineage, NotedRun, State
from certsync.issuer.store import STATE_SCHEMA, Store
from certsync.model.errors import NewerSchemaError
from certsync.model.proof import Proof, Verdict
from tests.unit.fake_fleet import NAME, NOW

GOOD = Proof("backend-01", Verdict.IN_SYNC, "0002", "aa", NOW.isoformat(), "")
BEHIND = Proof("backend-02", Verdict.BEHIND, "0001", "bb", NOW.isoformat(), "it serves 0001")
SILENT = Proof("backend-02", Verdict.UNREACHABLE, "", "", "", "no answer")


def run(exit_status: int = 0, *did: str, error: str = "", at: str = NOW.isoformat()) -> NotedRun:
    return NotedRun("renew", at, exit_status, error, "", tuple(did))


def full() -> State:
    """Return a state with something of everything."""
    advice = RenewalInfo("aa", (NOW, NOW + timedelta(hours=1)), "", NOW, NOW)
    lineage = Lineage(
        generation="0002", why="so", mixed_seconds=1.5, advice=advice,
        tries=Tries().failed(NOW, "no answer", order=True), backends={"a": Known("0002")},
    )  # fmt: skip
    return State({NAME: lineage}, alerts=({"key": "x"},)).ended(run(0, "did it"))


def test_state_is_read_as_it_was_written() -> None:
    text = json.dumps(full().to_json())
    assert State.from_json(json.loads(text)) == full()
    assert State.from_json({}) == State()


def test_a_backend_is_known_by_what_it_was_last_seen_to_serve() -> None:
    later = NOW + timedelta(hours=1)
    known = Lineage().seen([GOOD, BEHIND], ("backend-02",), NOW)
    assert known.backends["backend-01"] == Known("0002", NOW.isoformat(), NOW.isoformat())
    assert known.backends["backend-02"] == Known(
        "0001", NOW.isoformat(), "", NOW.isoformat(), NOW.isoformat(), "it serves 0001"
    )
    after = known.seen([GOOD, SILENT], (), later).backends["backend-02"]
    assert (after.generation, after.seen, after.behind_since, after.pushed, after.error) == (
        "0001", NOW.isoformat(), NOW.isoformat(), NOW.isoformat(), "no answer"
    )  # fmt: skip


def test_a_backend_that_is_in_sync_again_is_behind_no_longer() -> None:
    later = NOW + timedelta(hours=1)
    healed = Proof("backend-02", Verdict.IN_SYNC, "0002", "aa", "", "")
    known = Lineage().seen([BEHIND], (), NOW).seen([healed], (), later).backends["backend-02"]
    assert (known.behind_since, known.in_sync, known.error) == ("", later.isoformat(), "")


def test_a_moment_that_a_wrong_clock_noted_puts_off_nothing() -> None:
    ahead = Lineage().seen([BEHIND], (), NOW + timedelta(days=30))
    known = ahead.seen([BEHIND], (), NOW).backends["backend-02"]
    assert known.behind_since == NOW.isoformat()


def test_a_backend_that_left_the_fleet_is_forgotten() -> None:
    known = Lineage().seen([GOOD, BEHIND], (), NOW).seen([GOOD], (), NOW)
    assert set(known.backends) == {"backend-01"}


def test_of_runs_that_did_nothing_and_ended_alike_only_the_last_is_history() -> None:
    state = State()
    for each in (run(0, "ordered"), run(at="1"), run(at="2"), run(1, error="x"), run(at="3")):
        state = state.ended(each)
    assert [each.at for each in state.history] == [NOW.isoformat(), "2", NOW.isoformat(), "3"]
    assert state.last_success == "3"
    assert state.runs["renew"].at == "3"


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
        store.recall()
    assert caught.value.message == (
        f"{store.state_file} has schema {STATE_SCHEMA + 1}, and this certsync reads {STATE_SCHEMA}"
    )
    assert caught.value.hint == "a newer certsync has been here: deploy that one again"
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
    ],
)
def test_state_that_is_broken_is_forgotten_because_all_in_it_can_be_found_anew(
    tmp_path: Path, text: str
) -> None:
    store = Store(tmp_path, tmp_path)
    store.state_file.write_text(text)
    assert store.recall() == State()
    store.remember(full())
    assert store.recall() == full()


def test_the_file_keeps_the_names_that_an_older_version_reads() -> None:
    known = Lineage(renewed_early_at=NOW.isoformat(), refused_key=("a",), accepted_key=("b",))
    data = State({NAME: known}).to_json()
    kept = data["lineages"][NAME]
    assert (kept["hurried"], kept["fenced_by"], kept["let_in_by"]) == (
        NOW.isoformat(),
        ["a"],
        ["b"],
    )
    assert State.from_json(data).lineage(NAME) == known

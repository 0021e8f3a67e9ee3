"""Other machines' words, wherever they are shown or kept, cannot drive a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from certsync.issuer.backoff import Tries
from certsync.issuer.state import LineageState, State
from certsync.model.errors import CertsyncError
from certsync.model.fleet import Fleet
from certsync.model.proof import Proof, Verdict
from certsync.operator.deployment.progress import Watch
from certsync.operator.deployment.run import Event, Run
from certsync.system import console
from certsync.system.terminal import harmless
from tests.unit.fake_fleet import NAME, NOW, fleet

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\x08\x7f\u202egnp\u2066.\u200b\x00"
CLEANED = "?]0;owned??[2J??31m???gnp?.??"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, CLEANED),
        ("two\n\tlines", "two\n\tlines"),
        ("Zürich … „ja“", "Zürich … „ja“"),
        ("Erreur\u00a0: refus\u00e9\u202f! a\u3000b\u2003c", "Erreur : refusé ! a b c"),
        ("a\u2028b\u2029c\u0085d", "a?b?c?d"),
        ("cut\udcffoff", "cut?off"),
        ("", ""),
    ],
)
def test_what_is_not_shown_as_a_character_becomes_a_question_mark(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert harmless(shown) == shown


SINKS: dict[str, Callable[[str], None]] = {
    "result": console.result,
    "tell": console.tell,
    "warn": console.warn,
    "an error": lambda text: console.fail(CertsyncError(text)),
    "a hint": lambda text: console.fail(CertsyncError("it failed", text)),
    "JSON": console.result_json,
}


@pytest.mark.parametrize("sink", SINKS)
def test_whatever_is_printed_is_harmless(sink: str, capfd: pytest.CaptureFixture[str]) -> None:
    SINKS[sink](f"first\n{HOSTILE}\n")
    printed = "".join(capfd.readouterr())
    assert "first" in printed
    assert harmless(printed) == printed


def test_a_table_and_a_plan_keep_their_lines(capfd: pytest.CaptureFixture[str]) -> None:
    console.result("backend  served\nweb-1\t0001")
    assert capfd.readouterr().out == "backend  served\nweb-1\t0001\n"


def test_the_progress_shows_an_operation_as_it_is_named_and_nothing_moves() -> None:
    watch = Watch(named(fleet(1)))
    watch.take(Event("start", host="backend-01", name=f"[red]write[/red] {HOSTILE}"))
    shown = io.StringIO()
    Console(file=shown, force_terminal=False, width=200).print(watch)
    assert shown.getvalue().rstrip() == f"    backend-01: [red]write[/red] {CLEANED} …"


def named(one: Fleet) -> Fleet:
    return replace(one, balancers=())


def test_what_a_host_prints_while_pyinfra_runs_is_kept_harmless() -> None:
    run = Run.__new__(Run)
    run.output = []
    process = type("Process", (), {"stdout": [f"[web] \x1b[31m{HOSTILE}\x1b[0m\n"]})
    run._process = process  # type: ignore[assignment]  # only what it prints
    run._read_output()
    assert run.output_of("web") == [CLEANED]


def test_what_is_remembered_is_harmless() -> None:
    proof = Proof("backend-01", Verdict.WRONG, "", "aa", NOW.isoformat(), HOSTILE)
    lineage = LineageState(why=HOSTILE, tries=Tries().failed(NOW, HOSTILE, HOSTILE, 1, order=True))
    state = State({NAME: lineage.seen([proof], (), NOW)}, alerts=({"key": HOSTILE},))
    kept = json.dumps(state.to_json(), ensure_ascii=False)
    assert harmless(kept) == kept
    assert State.from_json(json.loads(kept)).lineage(NAME).backends["backend-01"].error == CLEANED

"""A provider's credentials stay in certsync's own process: no program that it starts has them."""

from __future__ import annotations

import os
import sys

import pytest

from certsync.system import process
from certsync.system.environment import CREDENTIALS

SHOW = [sys.executable, "-c", "import os; print(sorted(os.environ), flush=True)"]


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("CERTSYNC_KEPT", "1")


def is_clean(output: str) -> bool:
    return "CERTSYNC_KEPT" in output and not any(name in output for name in CREDENTIALS)


def test_a_program_has_none() -> None:
    assert is_clean(process.run(SHOW).stdout)


def test_a_program_that_runs_beside_us_has_none() -> None:
    child = process.Child(SHOW)
    assert is_clean(child.line(10))
    child.end()


def test_a_conversation_has_none() -> None:
    talk = process.Conversation([*SHOW[:2], f"input(); {SHOW[2]}"])
    assert is_clean(talk.ask("", 10))
    talk.end()


def test_the_run_of_pyinfra_has_none() -> None:
    reading, writing = os.pipe()
    child = process.follow(SHOW, cwd="/", events=writing, environment={"CERTSYNC_DRY": "1"})
    output, _ = child.communicate(timeout=10)
    os.close(reading)
    os.close(writing)
    assert is_clean(output)
    assert "CERTSYNC_DRY" in output

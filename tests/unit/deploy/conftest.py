"""What the modules of deploy/ remember during a run is forgotten from one test to the next."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import answers, preflight, progress, surveys


@pytest.fixture(autouse=True)
def _new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in (
        (answers, ("_answers",)),
        # By the number of a run's state, and the next one may get the number of one that is gone.
        (preflight, ("_unreached", "_no_longer_trusted")),
        (progress, ("_tokens", "phases", "_foreseen")),
        (surveys, ("_seen", "_asking")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, {})
    monkeypatch.setattr(answers, "_asked_ahead", set())
    monkeypatch.setattr(progress, "_tells", set())
    for variable in (progress.VARIABLE, "CERTSYNC_DRY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def events(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return what gives the events that were told so far, and tell them from here on."""
    path = tmp_path / "events"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    monkeypatch.setenv(progress.VARIABLE, str(descriptor))
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    os.close(descriptor)

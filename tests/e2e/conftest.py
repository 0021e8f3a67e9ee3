"""The labs that the end-to-end tests run on. Those of a module share one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from lab import Lab, LabError

HERE = Path(__file__).parent
BringUp = Callable[[Lab], AbstractContextManager[Lab]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as needing a lab."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)


@contextmanager
def _brought_up(lab: Lab) -> Iterator[Lab]:
    if any(machine.running() for machine in lab.machines):
        raise LabError(f"lab {lab.name} is up already", "do other tests run at the same time?")
    with lab:
        yield lab


@pytest.fixture(scope="session")
def bring_up() -> BringUp:
    """Return what brings a new lab up, and takes it down at the end of its block."""
    return _brought_up

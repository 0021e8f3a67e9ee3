"""The labs that the end-to-end tests run on. Those of a module share one."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from lab import Lab, LabError, needs
from lab.image import runtime
from lab.suites import SUITES, Runtime
from tests.e2e.prepared import disks
from tests.e2e.subjects import turn

HERE = Path(__file__).parent
SLOWEST = 15
"""Modules that are named at the end of a run."""


class BringUp(Protocol):
    """What brings a lab up, and takes it down at the end of its block."""

    def __call__(self, lab: Lab, *, prepared: bool = False) -> AbstractContextManager[Lab]:
        """``prepared``: a deploy has come to its third phase on the fleet file's hosts.

        For modules whose subject begins after that. A first deploy is tried on empty hosts.
        """
        ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as needing a lab, and have the longest modules begin first."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: turn(item.path.stem.removeprefix("test_")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show where the time went: the slowest modules, and how much of it is setting labs up."""
    taken: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                module = taken[Path(report.location[0]).stem]
                module[0] += report.duration
                module[1] += report.duration if report.when == "setup" else 0
    if not taken:
        return
    terminalreporter.section("seconds by module, setup in parentheses")
    slowest = sorted(taken.items(), key=lambda each: -each[1][0])
    for name, (whole, setup) in slowest[:SLOWEST]:
        terminalreporter.line(f"{whole:6.0f} ({setup:.0f}) {name}")
    whole, setup = (sum(each[part] for each in taken.values()) for part in (0, 1))
    share = 100 * setup / whole if whole else 0
    terminalreporter.line(f"{whole:6.0f} in all, {share:.0f} % of it setup")


@contextmanager
def _brought_up(lab: Lab, *, prepared: bool = False) -> Iterator[Lab]:
    if any(machine.running() for machine in lab.machines):
        raise LabError(f"lab {lab.name} is already up", "do other tests run at the same time?")
    if SUITES[lab.suite].runtime is None:
        needs.require()
        _fetch_wheels(runtime(lab.suite))
    if prepared:
        lab.disks = disks(lab)
    with lab:
        yield lab


def _fetch_wheels(wanted: Runtime) -> None:
    words = ["fetch-wheels", wanted.python, platform.machine(), wanted.libc]
    subprocess.run([sys.executable, "-m", "certsync", *words], check=True, timeout=300)


@pytest.fixture(scope="session")
def bring_up() -> BringUp:
    """Return what brings a new lab up, and takes it down at the end of its block."""
    return _brought_up

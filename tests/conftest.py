"""What holds for every test: none is skipped, and a matrix is run in part unless all is asked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips itself."""
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a file that skips itself."""
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: Report) -> Report:
    # An expected failure counts as skipped too, and is none.
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{why}\nA skipped test looks like a pass, so it fails."
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a plain run does not take of each matrix."""
    if os.environ.get("CERTSYNC_TEST_ALL") == "1":
        return
    choice = int(os.environ.get("CERTSYNC_TEST_CHOICE", "0"), 16)
    matrices: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("matrix"):
            matrices[item.nodeid.partition("[")[0]].append(item)
    left_out = {
        item
        for matrix in matrices.values()
        for index, item in enumerate(matrix)
        if index not in _taken(len(matrix), choice)
    }
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _taken(count: int, choice: int) -> set[int]:
    """Return the first, the last and one between them that ``choice`` picks."""
    between = {1 + choice % (count - 2)} if count > 2 else set()
    return {0, count - 1} | between

"""The map from files to the end-to-end modules that a change of them can touch."""

from __future__ import annotations

import subprocess
from fnmatch import fnmatchcase

import pytest

from tests.e2e.subjects import BROAD, CHECKOUT, LONGEST, NOTHING, SUBJECTS, modules, touched, turn


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_every_module_is_in_the_map_and_the_map_names_no_other() -> None:
    named = {name for names in SUBJECTS.values() for name in names}
    assert {*named, *BROAD} == {*modules()}


def test_the_longest_modules_are_there_and_begin_before_all_others() -> None:
    assert {*LONGEST} <= {*modules()}
    assert len({*LONGEST}) == len(LONGEST)
    assert tuple(sorted(modules(), key=turn)[: len(LONGEST)]) == LONGEST


@pytest.mark.parametrize("pattern", [*SUBJECTS, *NOTHING])
def test_every_pattern_is_of_a_file_that_is_there(pattern: str) -> None:
    assert any(fnmatchcase(path, pattern) for path in tracked())


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ([], []),
        (["docs/runbook.md", "README.md", "tests/unit/test_cli.py"], []),
        (
            ["tests/e2e/test_road.py", "certsync/operator/balancer/vrrp.py"],
            ["road", "two_balancers"],
        ),
        (["tests/e2e/test_that_was_removed.py"], []),
    ],
)
def test_a_change_touches_what_its_files_are_named_for(paths: list[str], names: list[str]) -> None:
    assert touched(paths) == names


@pytest.mark.parametrize(
    "path",
    [
        "certsync/programs/receiver.py",
        "deploy/site.py",
        "lab/world.py",
        "tests/e2e/road.py",
        "new.py",
    ],
)
def test_a_file_that_is_not_named_touches_every_module(path: str) -> None:
    assert touched(["docs/runbook.md", path]) == modules()

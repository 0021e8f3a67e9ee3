"""The rules of tests/conftest.py, tried on test files of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"
MARKERS = "[pytest]\nmarkers =\n    matrix: as in pyproject.toml\n"
MATRIX = """
import pytest

@pytest.mark.matrix
@pytest.mark.parametrize("row", range(6))
def test_row(row):
    assert row in {rows}
"""


@pytest.fixture(autouse=True)
def our_rules(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini(MARKERS)


@pytest.mark.parametrize(
    "text",
    [
        "import pytest\ndef test_it(): pytest.skip('no root')",
        "import pytest\n@pytest.mark.skip(reason='no root')\ndef test_it(): pass",
        "import pytest\npytest.skip('no root', allow_module_level=True)",
        "import pytest\n@pytest.fixture\ndef lab(): pytest.skip('no root')\ndef test_it(lab): pass",
    ],
    ids=["call", "marker", "file", "fixture"],
)
def test_a_skipped_test_fails_the_run_and_tells_why(pytester: pytest.Pytester, text: str) -> None:
    pytester.makepyfile(text)
    result = pytester.runpytest()
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no root", "A skipped test looks like a pass, so it fails."])


def test_an_expected_failure_is_no_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_it(): assert False")
    assert pytester.runpytest().ret == 0


@pytest.mark.parametrize(("commit", "rows"), [("0", {0, 1, 5}), ("a7", {0, 4, 5})])
def test_a_plain_run_takes_three_of_a_matrix(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, commit: str, rows: set[int]
) -> None:
    monkeypatch.delenv("CERTSYNC_TEST_ALL", raising=False)
    monkeypatch.setenv("CERTSYNC_TEST_CHOICE", commit)
    pytester.makepyfile(MATRIX.format(rows=rows))
    pytester.runpytest().assert_outcomes(passed=3, deselected=3)


def test_all_takes_the_whole_matrix(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTSYNC_TEST_ALL", "1")
    pytester.makepyfile(MATRIX.format(rows=set(range(6))))
    pytester.runpytest().assert_outcomes(passed=6)

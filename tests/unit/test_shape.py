"""Files and functions that are read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

LONGEST_FILE, LONGEST_FUNCTION = 300, 40
LONGER = {
    "certsync/programs/receiver.py": "one program, brought to each replica as one file",
    "certsync/system/process.py": "the one door to other programs: run, converse, hold open",
}
"""Files that are longer, and why."""


def sources() -> dict[str, str]:
    """Return the text of each module of the product."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("certsync", "deploy")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_a_file_is_no_longer_than_is_read_at_once_but_for_those_with_a_reason() -> None:
    long = {path for path, text in sources().items() if len(text.splitlines()) > LONGEST_FILE}
    assert long == set(LONGER)


def test_a_function_fits_on_a_screen() -> None:
    assert [
        f"{path}:{node.lineno}: {node.name}"
        for path, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ] == []

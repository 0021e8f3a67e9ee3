"""Programs that end-to-end tests run on hosts stand in strings: nothing else looks at them."""

from __future__ import annotations

import ast
import builtins
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
IMPORT = "from certsync"


def text_of(node: ast.AST) -> str:
    """Return a string's text, with a name in the place of what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) or "filled_in" for each in node.values)
    return ""


def programs() -> dict[str, str]:
    """Return the programs by where they stand."""
    found = {}
    for path in sorted((ROOT / "tests/e2e").glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        parts = {each for node in nodes if isinstance(node, ast.JoinedStr) for each in node.values}
        for node in nodes:
            text = "" if node in parts else text_of(node)
            if f"\n{IMPORT}" in f"\n{text}" and text.count("\n") > 1:
                found[f"{path.name}:{getattr(node, 'lineno', 0)}"] = text
    return found


def test_there_are_some() -> None:
    assert len(programs()) >= 6


@pytest.mark.parametrize("where", programs())
def test_a_program_uses_what_it_has_imported_and_what_is_there(where: str) -> None:
    tree = ast.parse(programs()[where])
    names, modules = set(dir(builtins)) | {"filled_in"}, {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for each in node.names:
                names.add((each.asname or each.name).partition(".")[0])
                if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("certsync"):
                    package = import_module(f"{node.module}")
                    found = getattr(package, each.name, None)
                    modules[each.name] = found or import_module(f"{node.module}.{each.name}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert loaded - names == set()
    assert [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
        and not hasattr(modules[node.value.id], node.attr)
    ] == []

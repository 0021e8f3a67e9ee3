"""What the documents say of the code is so, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from certsync.cli import cli

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "certsync"
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
DOCUMENTS = [ROOT / "CONTRIBUTING.md", README, *(ROOT / "docs").rglob("*.md")]
COMMANDS = {name: command for name, command in cli.commands.items() if not command.hidden}

LAYERS = ["command line", "verbs", "hands", "values and decisions", "programs of one file", ""]
"""The rows of the table of imports in docs/architecture.md, from the top down."""


def modules() -> set[str]:
    """Return the package's top-level modules, folders among them."""
    files = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("_")}
    return files | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def layers() -> list[set[str]]:
    """Return the modules of each row of the table of imports."""
    row = re.compile(r"^\| ([^|:]*?)(?::[^|]*)? ?\| (`[^|]*) \|$", re.MULTILINE)
    rows = row.findall(ARCHITECTURE.read_text())
    table = {title: set(re.findall(r"`(\w+)`", names)) for title, names in rows}
    return [table[title] for title in LAYERS]


def imports() -> set[tuple[str, str]]:
    """Return which top-level module imports which other one."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        importer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "certsync":
                found |= {(importer, name.name) for name in node.names}
            elif isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("certsync."):
                found.add((importer, f"{node.module}".split(".")[1]))
    return {(one, other) for one, other in found if one != other}


def test_the_architecture_names_every_module() -> None:
    text = ARCHITECTURE.read_text()
    assert {name for name in modules() if f"`{name}`" not in text} == set()


def test_imports_run_down_the_table_of_the_architecture() -> None:
    rank = {name: number for number, names in enumerate(layers()) for name in names}
    assert modules() - set(rank) == {"any_inventory"}
    wrong = {
        (one, other)
        for one, other in imports()
        if one in rank and other in rank and rank[one] > rank[other]
    }
    assert wrong == set()


def test_imports_run_in_no_circle() -> None:
    left = imports()
    while True:
        importers = {one for one, _ in left}
        further = {(one, other) for one, other in left if other in importers}
        if further == left:
            break
        left = further
    assert left == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", document.read_text())
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert re.search(rf"(certsync |`){name}\b", README.read_text())

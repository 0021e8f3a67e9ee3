"""What the documents say of the code is so, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from certsync.main import cli

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "certsync"
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
DOCUMENTS = [
    ROOT / "CONTRIBUTING.md",
    README,
    PACKAGE / "README.md",
    *(ROOT / "docs").rglob("*.md"),
]
COMMANDS = {name: command for name, command in cli.commands.items() if not command.hidden}


def test_every_room_is_on_the_map_and_in_the_architecture() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    text, drawn = ARCHITECTURE.read_text(), (PACKAGE / "README.md").read_text()
    assert {name for name in rooms if f"`certsync/{name}`" not in text} == set()
    assert {name for name in rooms if f"`{name}/`" not in drawn} == set()
    assert len(drawn.splitlines()) <= 25


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


def test_every_file_that_the_map_names_is_there() -> None:
    named = re.findall(r"`((?:\.\./)?[\w/.]+\.(?:py|sh))`", (PACKAGE / "README.md").read_text())
    assert len(named) > 5
    assert [name for name in named if not (PACKAGE / name).exists()] == []

"""What `--help` says of each command, whole: one file a command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from certsync.main import cli
from tests.unit import texts


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the words of each command, of hidden ones too."""
    yield above
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("words", [*commands(cli)], ids=" ".join)
def test_help_is_as_it_is_kept(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, [*words, "--help"], prog_name="certsync", terminal_width=100)
    assert said.exit_code == 0
    assert said.output == texts.kept(f"help {' '.join(words)}".strip(), said.output)


def test_every_kept_text_has_a_command() -> None:
    files = {path.stem for path in texts.FOLDER.glob("help*.txt")}
    assert files == {f"help {' '.join(words)}".strip() for words in commands(cli)}

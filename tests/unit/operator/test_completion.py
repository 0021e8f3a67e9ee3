"""Shell completion, as a shell does it: keys are typed, and what it writes after them is read."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from certsync.main import cli

PROMPT = "ready> "
SECONDS = 30


class Typed:
    """An interactive bash at a terminal, with nobody's settings."""

    def __init__(self, folder: Path) -> None:
        self._shown = ""
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            # Plain: no bracketed paste, no colours.
            environment = {"PATH": path, "PS1": PROMPT, "TERM": "dumb", "HOME": str(folder)}
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)

    def until(self, words: str) -> None:
        """Wait until these words are shown."""
        end = time.monotonic() + SECONDS
        while words not in self._shown:
            ready, _, _ = select.select([self._terminal], [], [], max(0, end - time.monotonic()))
            assert ready, f"{words!r} has not been shown: {self._shown!r}"
            self._shown += os.read(self._terminal, 4096).decode()
        self._shown = self._shown.partition(words)[2]

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._terminal, keys.encode())

    def end(self) -> None:
        """Take the terminal away."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self._terminal)


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Typed]:
    """Return a bash that has been told what completes certsync, in a folder with a fleet file."""
    (tmp_path / "my-fleet.toml").touch()
    bash = Typed(tmp_path)
    try:
        bash.until(PROMPT)
        bash.type('eval "$(certsync completion bash)"; echo com""plete\n')
        bash.until("complete\r\n")
        bash.until(PROMPT)
        yield bash
    finally:
        bash.end()


def test_bash_completes_a_verb_and_then_a_path(typed: Typed) -> None:
    typed.type("certsync dep\t")
    typed.until("certsync deploy ")
    typed.type("my\t")
    typed.until("my-fleet.toml ")


def test_bash_completes_an_option(typed: Typed) -> None:
    typed.type("certsync deploy --dry\t")
    typed.until("certsync deploy --dry-run ")


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("zsh", ["#compdef certsync", "_CERTSYNC_COMPLETE=zsh_complete", "_path_files -f"]),
        (
            "fish",
            ["_CERTSYNC_COMPLETE=fish_complete", "--command certsync", "__fish_complete_path"],
        ),
    ],
)
def test_zsh_and_fish_get_scripts_that_ask_certsync(shell: str, words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert [each for each in words if each not in done.stdout] == []


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        pytest.param(
            {"_CERTSYNC_COMPLETE": "zsh_complete", "COMP_WORDS": "certsync dep", "COMP_CWORD": "1"},
            r"plain\ndeploy\nSet up FLEET end to end",
            id="zsh",
        ),
        pytest.param(
            {"_CERTSYNC_COMPLETE": "fish_complete", "COMP_WORDS": "certsync deploy my",
             "COMP_CWORD": "my"},
            r"file",
            id="fish",
        ),
    ],
)  # fmt: skip
def test_what_their_scripts_ask_for_is_answered(environment: dict[str, str], told: str) -> None:
    done = CliRunner(env=environment).invoke(cli, prog_name="certsync")
    assert re.search(told, done.stdout)

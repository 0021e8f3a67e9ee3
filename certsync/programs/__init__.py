"""What runs on other hosts, each in a file of its own: by their own shell, with nothing of ours."""

from __future__ import annotations

import shlex
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def text_of(name: str) -> str:
    """Return a program's text."""
    return (FOLDER / name).read_text()


def command(name: str, *arguments: str) -> str:
    """Return the shell command that runs a program in sh, brought along in the command itself."""
    return shlex.join(["sh", "-c", text_of(name), name.partition(".")[0], *arguments])

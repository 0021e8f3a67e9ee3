"""Standalone programs for other hosts: run by the host's own sh or Python, without our packages."""

from __future__ import annotations

import shlex
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def text_of(name: str) -> str:
    """Return a program's source."""
    return (FOLDER / name).read_text()


def command(name: str, *arguments: str) -> str:
    """Return the shell command that runs a program in sh, with its source inside the command."""
    return shlex.join(["sh", "-c", text_of(name), name.partition(".")[0], *arguments])

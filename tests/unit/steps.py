"""Steps of a deploy, taken by this machine's own shell, with programs that a test has put there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from certsync.operator.hosts.survey import Survey, parse
from certsync.programs import FOLDER


def surveyed(*lines: str) -> Survey:
    """Return what a host is like that says these lines."""
    return parse(lines)


def program(folder: Path, name: str, text: str) -> None:
    """Have a program in the folder that comes first in a step's path."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def taken(
    folder: Path, script: str, files: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a step's script with the functions that it has on a host; its folder is ``folder``."""
    here = folder / "here"
    here.mkdir(exist_ok=True)
    for name, text in (files or {}).items():
        (here / name).write_text(text)
    begin = f"staged={here} here={here}\n. {FOLDER}/functions.sh\n"
    return subprocess.run(
        ["sh", "-c", begin + script],
        capture_output=True,
        text=True,
        cwd=cwd or folder,
        env={"PATH": f"{folder}/bin:{os.environ['PATH']}"},
    )

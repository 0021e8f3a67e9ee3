"""What cron starts: whatever the run ends with is its end, and a broken environment is told."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "templates/renewal/renew"


def run(folder: Path, *, renew: str, python: str) -> subprocess.CompletedProcess[str]:
    """Run the script with these two programs in the place of the environment's."""
    (folder / "bin").mkdir()
    for name, text in {"certsync": renew, "python": python}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    text = SCRIPT.read_text().replace("HOME=/opt/certsync/current", f"HOME={folder}")
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("status", [0, 1, 3, 75])
def test_a_run_ends_as_certsync_does(tmp_path: Path, status: int) -> None:
    done = run(tmp_path, renew=f"exit {status}", python="exit 0")
    assert (done.returncode, done.stderr) == (status, "")


def test_an_environment_that_does_not_start_is_told_with_what_mends_it(tmp_path: Path) -> None:
    done = run(tmp_path, renew="exit 127", python="echo no encodings >&2; exit 1")
    assert done.returncode == 1
    assert "environment does not start: no encodings" in done.stderr
    assert "certsync deploy FLEET" in done.stderr


def test_what_the_script_loads_to_try_the_environment_is_there() -> None:
    (names,) = re.findall(r"-c 'import ([\w., ]+)'", SCRIPT.read_text())
    for name in names.split(", "):
        assert import_module(name)

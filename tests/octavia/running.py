"""Octavia's API as a process of its own, with Python packages of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-octavia/bin/python"
"""Its packages are many, and want versions of their own: `script/setup --octavia` makes it."""

SUBNET = "3f3c5a3e-3f67-4f2b-bb2c-0c5f0f0f0f0f"


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run it while the block lasts, with its database in a folder, and give where it answers."""
    words = [str(PYTHON), "-W", "ignore", "-m", "tests.octavia.server", str(folder), "0"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    with child:
        assert child.stdout is not None
        try:
            port = next((line.split()[1] for line in child.stdout if line.startswith("up ")), None)
            assert port, (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()

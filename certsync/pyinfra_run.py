"""Run pyinfra as a child process, and read what it tells as it goes.

As a child because pyinfra's command line patches the process it runs in; and so that both doors,
`pyinfra -y inventory/NAME.py deploy/site.py` and `certsync deploy`, lead to the same room.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from certsync import process
from certsync.templates import PACKAGE, road

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Event:
    """One thing that happened: `operation`, `start`, `success`, `error`, `unreached`, `refused`."""

    kind: str
    host: str = ""
    name: str = ""
    hosts: tuple[str, ...] = ()
    text: str = ""
    changed: bool = False
    """Whether a `success` changed anything."""


class Run:
    """A run of pyinfra over a fleet."""

    def __init__(self, fleet_file: Path, *, dry: bool, data: dict[str, str], token: str) -> None:
        """Start it. ``data`` overrides pyinfra's host data; ``token`` presents the fleet lock."""
        self.output: list[str] = []
        """All that pyinfra printed, line by line, without colours."""
        self.status = 0
        reading, writing = os.pipe()
        self._events = os.fdopen(reading)
        argv = [sys.executable, "-m", "pyinfra", "--chdir", str(road())]
        argv += ["--dry"] if dry else ["-y"]
        for key, value in data.items():
            argv += ["--data", f"{key}={value}"]
        environment = {
            "CERTSYNC_EVENTS": str(writing),
            "CERTSYNC_FLEET": str(fleet_file.resolve()),
            "CERTSYNC_LOCK_TOKEN": token,
            "PYINFRA_PROGRESS": "off",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = process.follow(
            [*argv, str(_inventory(fleet_file)), "deploy/site.py"],
            cwd=str(road()),
            events=writing,
            environment=environment,
        )
        os.close(writing)
        self._reader = Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def events(self) -> Iterator[Event]:
        """Yield what happens until the run has ended; then `status` is its exit status."""
        for line in self._events:
            data: dict[str, Any] = json.loads(line)
            yield Event(
                data["event"],
                data.get("host", ""),
                data.get("name", ""),
                tuple(data.get("hosts", ())),
                data.get("text", ""),
                data.get("changed", False),
            )
        self.status = self._process.wait()
        self._reader.join(timeout=10)

    def stop(self) -> None:
        """End the child if it is still there."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def said_of(self, name: str) -> list[str]:
        """Return the lines that pyinfra printed about a host, routine ones left out."""
        routine = ("Success", "No changes", "Skipped", "Connected", "Ready:", "noop:")
        lines = [line.strip() for line in self.output if line.strip().startswith(f"[{name}]")]
        texts = [line.removeprefix(f"[{name}]").strip() for line in lines]
        return [text for text in texts if text and not text.startswith(routine)]

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(COLOUR.sub("", line.rstrip("\n")))


def _inventory(fleet_file: Path) -> Path:
    beside = fleet_file.with_suffix(".py").resolve()
    return beside if beside.exists() else PACKAGE / "any_inventory.py"

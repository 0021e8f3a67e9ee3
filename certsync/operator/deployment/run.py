"""Run pyinfra as a child process, and read what it tells as it goes.

As a child because pyinfra's command line patches the process it runs in; and so that both doors,
`pyinfra -y inventory/NAME.py deploy/site.py` and `certsync deploy`, lead to the same room.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from certsync.operator.deployment.inventory import VARIABLE
from certsync.operator.deployment.request import DeployRequest, resolved
from certsync.operator.rendering.templates import road
from certsync.system import process
from certsync.system.terminal import harmless

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Event:
    """One thing that happened: `phase`, `start`, `success`, `error`, `unreached`, `refused`.

    In a dry run also `file`, `gate`, `answer` and `plan`: what would be, in ``data``; and `script`.
    """

    kind: str
    host: str = ""
    name: str = ""
    hosts: tuple[str, ...] = ()
    text: str = ""
    changed: bool = False
    """Whether a `success` changed anything."""

    data: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """A run of pyinfra over a fleet. A real one only connects until `go_on` is called."""

    def __init__(self, asked: DeployRequest, *, dry: bool) -> None:
        """Start it.

        Raises:
            FleetFileError: the fleet file has mistakes, or a template of the fleet's own.
        """
        wanted = resolved(asked)
        self.output: list[str] = []
        """All that pyinfra printed, line by line, without colours and made harmless."""
        self.status = 0
        reading, writing = os.pipe()
        self._events = os.fdopen(reading)
        argv = [sys.executable, "-m", "pyinfra", "--chdir", str(road())]
        argv += ["--dry"] if dry else ["-y"]
        for name in asked.only:
            argv += ["--limit", name]
        self._process = process.follow(
            [*argv, str(_inventory(asked.file.path)), asked.deploy],
            cwd=str(road()),
            events=writing,
            environment=_environment(asked, writing, dry=dry),
        )
        os.close(writing)
        self._reader = Thread(target=self._read_output, daemon=True)
        self._reader.start()
        self._tell(wanted.to_json())
        if dry:
            # pyinfra asks whether to go on where a host has failed: nobody answers.
            self._close_stdin()

    def go_on(self, tokens: Mapping[str, str]) -> None:
        """Have it change what is to be changed.

        ``tokens`` present the fleet locks that are held, by the host's name.
        """
        self._tell(json.dumps(dict(tokens)))
        self._close_stdin()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # One that has ended by itself says why in its events.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

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
                data,
            )
        self.status = self._process.wait()
        self._reader.join(timeout=10)

    def stop(self) -> None:
        """End the child if it is still there."""
        self._close_stdin()
        if self._process.poll() is None:
            process.end(self._process)

    def said_of(self, name: str) -> list[str]:
        """Return the lines that pyinfra printed about a host, routine ones left out."""
        routine = ("Success", "No changes", "Skipped", "Connected", "Ready:", "noop:")
        lines = [line.strip() for line in self.output if line.strip().startswith(f"[{name}]")]
        texts = [line.removeprefix(f"[{name}]").strip() for line in lines]
        return [text for text in texts if text and not text.startswith(routine)]

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(harmless(COLOUR.sub("", line.rstrip("\n"))))


def _environment(asked: DeployRequest, events: int, *, dry: bool) -> dict[str, str]:
    environment = {
        "CERTSYNC_EVENTS": str(events),
        "CERTSYNC_FLEET": str(asked.file.path.resolve()),
        VARIABLE: "stdin",
        "PYINFRA_PROGRESS": "off",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**environment, "CERTSYNC_DRY": "1"} if dry else environment


def _inventory(fleet_file: Path) -> Path:
    beside = fleet_file.with_suffix(".py").resolve()
    return beside if beside.exists() else Path(__file__).with_name("any_inventory.py")

"""Run pyinfra as a child process, and read its events and output.

A child process, because pyinfra's command line patches the process it runs in, and so that
`pyinfra -y inventory/NAME.py deploy/site.py` and `certsync deploy` do the same.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import certsync
from certsync.operator.deployment.inventory import VARIABLE
from certsync.operator.deployment.operations import GO_ON
from certsync.operator.deployment.request import DeployRequest, resolved
from certsync.operator.hosts.fleet_lock import Lock
from certsync.operator.rendering.templates import road
from certsync.system import process
from certsync.system.terminal import harmless

ANY_INVENTORY = Path(certsync.__file__).with_name("any_inventory.py")
ANSWERS = 200
"""More than pyinfra asks questions in a dry run: one for each time that hosts fail."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Event:
    """What happened: `phase`, `start`, `success`, `error`, `unreached`, `refused`, `note`.

    In a dry run also `script`, and `file`, `gate`, `answer` and `plan` with a forecast in ``data``.
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
            FleetFileError: the fleet file, or one of its templates, has mistakes.
        """
        wanted = resolved(asked)
        self._locks: tuple[Lock, ...] = ()
        self._before_phase: Callable[[str], None] = lambda _: None
        self.only = asked.only
        """The hosts it is for; empty: all."""

        self.output: list[str] = []
        """pyinfra's output by line, without colours and control characters."""
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
        self._send(wanted.to_json())
        if dry:
            # pyinfra asks whether to continue when a host has failed: an empty line means yes.
            self._send("\n" * ANSWERS)
            self._close_stdin()

    def go_on(
        self, locks: Sequence[Lock], before_phase: Callable[[str], None] | None = None
    ) -> None:
        """Let it make its changes, phase by phase while these locks are held.

        ``before_phase`` is called with each phase's name; if it raises, the phase does not begin.
        """
        self._locks = tuple(locks)
        self._before_phase = before_phase or self._before_phase
        self._send(json.dumps({each.host: each.token for each in locks}))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        # If it has ended by itself, its events say why.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def events(self) -> Iterator[Event]:
        """Yield events until the run has ended; `status` is then its exit status.

        Raises:
            LockLostError: a lock is no longer held, so the next phase does not begin.
            CertsyncError: what comes before the next phase failed.
        """
        for line in self._events:
            data: dict[str, Any] = json.loads(line)
            if data["event"] == "phase" and self._locks:
                for lock in self._locks:
                    lock.require()
                self._before_phase(data["name"])
                self._send(GO_ON)
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
        """End the child if it still runs."""
        self._close_stdin()
        if self._process.poll() is None:
            process.end(self._process)
        self._events.close()

    def output_of(self, name: str) -> list[str]:
        """Return pyinfra's output about a host, without routine lines."""
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
    return beside if beside.exists() else ANY_INVENTORY

"""A long and lossy cable to a host, in place of its short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cgroup
from lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Cable:
    """A long cable: its host, and what it does to frames."""

    lab: str
    host: str
    number: int
    """The last part of the host's addresses."""

    delay_ms: float
    """The round-trip time; each frame is delayed by half of it."""

    loss: float
    """The probability that a frame is lost, each way."""

    seed: int
    """Decides which frames are lost."""


@contextmanager
def laid(cable: Cable, log: Path) -> Iterator[None]:
    """Replace a host's cable by a long one inside the block.

    Raises:
        LabError: it cannot be set up, or the relay ended before the block did.
    """
    group = f"{cable.lab}.cable-{cable.host}"
    # In a group of the lab, so that it cannot outlive the lab.
    entries = " ".join(str(path) for path in cgroup.make(group))
    joined = f'for entry in {entries}; do echo $$ > "$entry"; done; exec "$@"'
    words = json.dumps(asdict(cable))
    with log.open("a") as output:
        program = subprocess.Popen(
            ["sh", "-c", joined, "cable", sys.executable, "-m", "lab.relay", words],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        if program.stdout.readline() != b"ready\n":
            raise LabError(f"no long cable to {cable.host}: {_last_line(log)}")
        yield
        if program.poll() is not None:
            raise LabError(f"the long cable to {cable.host} broke: {_last_line(log)}")
    finally:
        program.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=10)
        program.stdout.close()
        cgroup.remove(group)


def _last_line(log: Path) -> str:
    # The log is removed with the lab.
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it printed nothing"

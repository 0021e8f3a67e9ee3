"""A long and lossy cable to a host, in place of the short one that it has."""

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
    """A long cable: to which host, and what becomes of frames in it."""

    lab: str
    host: str
    number: int
    """The last part of the host's addresses."""

    delay_ms: float
    """There and back together; each frame is under way for half of it."""

    loss: float
    """The probability that a frame is lost, each way."""

    seed: int
    """Decides which."""


@contextmanager
def laid(cable: Cable, log: Path) -> Iterator[None]:
    """Have a long cable to a host inside the block.

    Raises:
        LabError: it cannot be laid, or the program in its middle has ended before the block.
    """
    group = f"{cable.lab}.cable-{cable.host}"
    # In a group of the lab's own, so that nothing of it outlives the lab.
    entries = " ".join(str(path) for path in cgroup.make(group))
    joined = f'for entry in {entries}; do echo $$ > "$entry"; done; exec "$@"'
    words = json.dumps(asdict(cable))
    with log.open("a") as said:
        program = subprocess.Popen(
            ["sh", "-c", joined, "cable", sys.executable, "-m", "lab.relay", words],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        if program.stdout.readline() != b"ready\n":
            raise LabError(f"no long cable to {cable.host}: {_last_words(log)}")
        yield
        if program.poll() is not None:
            raise LabError(f"the long cable to {cable.host} broke: {_last_words(log)}")
    finally:
        program.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=10)
        program.stdout.close()
        cgroup.remove(group)


def _last_words(log: Path) -> str:
    # It goes with the lab.
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"

"""The only place in the lab that starts processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError


def say(message: str) -> None:
    """Print on standard error what a long step is doing."""
    print(f"lab: {message}", file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,
    timeout: float = 120,
    hint: str = "",
) -> str:
    """Run a command and return its standard output.

    Raises:
        LabError: it exits non-zero or takes longer than ``timeout`` seconds.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=input, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(words)}` took longer than {timeout:g} s", hint) from None
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"`{' '.join(words)}` exited {done.returncode}: {output}", hint)
    return done.stdout


def attempt(argv: Sequence[str | Path], *, timeout: float = 60) -> bool:
    """Run a command that may fail, and return whether it exited 0."""
    words = [str(word) for word in argv]
    try:
        return subprocess.run(words, capture_output=True, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def watch(argv: Sequence[str | Path], *, label: str, log: Path, hint: str = "") -> None:
    """Run a long command with its output in ``log``, and print every ten seconds that it runs."""
    words = [str(word) for word in argv]
    begin = time.monotonic()
    with log.open("a") as sink:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            while True:
                try:
                    status = child.wait(timeout=10)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{label} ({time.monotonic() - begin:.0f} s)")
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"{label}: exited {status}\n{tail}\nfull log: {log}", hint)

"""For how long new connections fail: a new one every so often, whatever became of those before.

A program, and a test's hold on it. It begins at once, and ends when its standard input does.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.05
PATIENCE = 1.0
"""Seconds that a connection has for its TLS handshake: one that a person would wait for."""

LONGEST = 120.0


@dataclass(frozen=True)
class Outage:
    """What became of the connections."""

    tried: int
    failed: int
    seconds: float
    """From the first one that failed to the one after which none did; 0: none failed."""

    last: str
    """What the last one that failed ended of."""

    def text(self) -> str:
        """Return it as a person reads it."""
        if not self.failed:
            return f"{self.tried} new connections, 0 failed"
        return (
            f"{self.tried} new connections, {self.failed} failed within {self.seconds:.2f} s, "
            f"the last of {self.last}"
        )


def main(address: str, name: str, roots: str) -> None:
    """Connect until standard input ends, and print what became of it."""
    trust = ssl.create_default_context(cafile=roots)
    began, ends = time.monotonic(), time.monotonic() + LONGEST
    results: list[tuple[float, str]] = []

    def connect() -> None:
        at, why = time.monotonic() - began, ""
        try:
            with (
                socket.create_connection((address, 443), timeout=PATIENCE) as plain,
                trust.wrap_socket(plain, server_hostname=name),
            ):
                pass
        except OSError as error:
            why = f"{type(error).__name__}: {error}"
        results.append((at, why))

    threads = []
    print("connecting", flush=True)
    while time.monotonic() < ends and not select.select([sys.stdin], [], [], EVERY)[0]:
        threads.append(threading.Thread(target=connect))
        threads[-1].start()
    for thread in threads:
        thread.join()
    results.sort()
    failed = [(at, why) for at, why in results if why]
    seconds, last = 0.0, ""
    if failed:
        after = [at for at, why in results if not why and at > failed[-1][0]]
        seconds = (after[0] if after else ends - began) - failed[0][0]
        last = failed[-1][1]
    print(json.dumps([len(results), len(failed), seconds, last]))


class Connecting:
    """New connections to an address inside the block; `over` ends and counts them."""

    def __init__(self, before: Sequence[str], address: str, name: str, roots: str) -> None:
        self.argv = [*before, sys.executable, str(Path(__file__)), address, name, roots]

    def __enter__(self) -> Connecting:
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "connecting\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def over(self) -> Outage:
        """Connect no more, and return what became of the connections."""
        told, _ = self.process.communicate(timeout=LONGEST)
        assert self.process.returncode == 0
        return Outage(*json.loads(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

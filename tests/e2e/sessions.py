"""New TLS connections that each offer a session ticket, counted: program and a test's hold on it.

The program goes on until its standard input has ended and so many connections are made.
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10.0
LONGEST = 120.0
FLOWING = "flowing"
FLOWS = 40
"""Connections after which the program says that it flows."""

LAST, FIRST = "last", "first"
"""Which ticket is offered: that of the connection before, or for ever the first one's."""

BACKEND = re.compile(rb"backend-\d+")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass
class Tally:
    """What happened; the very first connection has nothing to offer and is not counted."""

    connections: int = 0
    resumed: int = 0
    backends: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Return how many of the connections went on with a session."""
        return self.resumed / self.connections


def client(address: str, name: str, roots: str, version: str, offer: str, count: str) -> None:
    """Connect again and again, and print the tally."""
    context = ssl.create_default_context(cafile=roots)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    tally, offered, is_over = Tally(), None, False
    while not (is_over and tally.connections >= int(count)):
        new = _connect(context, address, name, offered, tally)
        if offered is None or offer == LAST:
            offered = new
        if tally.connections == FLOWS:
            print(FLOWING, flush=True)
        if not is_over and select.select([sys.stdin], [], [], 0)[0]:
            is_over = not sys.stdin.readline()
    print(json.dumps(vars(tally)))


def _connect(
    context: ssl.SSLContext, address: str, name: str, ticket: ssl.SSLSession | None, tally: Tally
) -> ssl.SSLSession | None:
    plain = socket.create_connection((address, 443), timeout=SECONDS)
    # Or the request waits for the other side to acknowledge the end of the handshake.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with plain, context.wrap_socket(plain, server_hostname=name, session=ticket) as tls:
        tls.sendall(f"GET /lb.html HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := tls.recv(65536):
            answer += part
        found = BACKEND.search(answer)
        if not answer.startswith(b"HTTP/1.1 200") or found is None:
            raise ConnectionError(answer[:200])
        if ticket is not None:
            tally.connections += 1
            tally.resumed += bool(tls.session_reused)
            tally.backends[found.group().decode()] += 1
            tally.versions[tls.version() or ""] += 1
        return tls.session


class Connections:
    """Connections that are made inside the block; `over` ends and counts them."""

    def __init__(self, before: Sequence[str], *words: str) -> None:
        self.argv = [*before, sys.executable, str(Path(__file__)), *words]

    def __enter__(self) -> Connections:
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != FLOWING:
            self.__exit__()
            raise AssertionError(f"no connections are made: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def over(self) -> Tally:
        """Say that what was to be watched is over, and return what happened."""
        told, _ = self.process.communicate(timeout=LONGEST)
        assert self.process.returncode == 0
        data = json.loads(told)
        backends, versions = Counter(data.pop("backends")), Counter(data.pop("versions"))
        return Tally(**data, backends=backends, versions=versions)


if __name__ == "__main__":
    client(*sys.argv[1:])

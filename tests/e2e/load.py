"""A constant load of HTTPS requests through the balancer, counted. Run as a program; see `main`.

It stops by itself: at its end of time, or after so many requests once its standard input has
ended, which says that what was to be watched is over.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

WORKERS = 4
SECONDS = 10.0
"""One request's patience."""

LONGEST = 300.0
"""Seconds after which a load ends whatever was asked for."""


@dataclass
class Tally:
    """What happened to the requests."""

    requests: int = 0
    retried: int = 0
    """Sent once more, because a reused connection closed before any byte of the answer."""

    failed: Counter[str] = field(default_factory=Counter)
    leaves: Counter[str] = field(default_factory=Counter)
    """SHA-256 of the served leaves, where a connection was made."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, *, retried: bool = False, failed: str = "", leaf: str = "") -> None:
        """Count one request."""
        with self.lock:
            self.requests += 1
            self.retried += retried
            if failed:
                self.failed[failed] += 1
            if leaf:
                self.leaves[leaf] += 1


@dataclass(frozen=True)
class Target:
    """What is asked for."""

    address: str
    name: str
    roots: str
    path: str = "/lb.html"

    def connect(self) -> http.client.HTTPSConnection:
        """Return a new connection, verified against the roots alone."""
        context = ssl.create_default_context(cafile=self.roots)
        connection = http.client.HTTPSConnection(self.name, 443, timeout=SECONDS, context=context)
        plain = socket.create_connection((self.address, 443), timeout=SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = context.wrap_socket(plain, server_hostname=self.name)
        return connection

    def get(self, connection: http.client.HTTPSConnection) -> str:
        """Send one request and return what is wrong with its answer; empty: it is good."""
        connection.request("GET", self.path)
        response = connection.getresponse()
        body = response.read()
        return "" if response.status == 200 and b"backend-" in body else f"HTTP {response.status}"


def new_connection_each(target: Target, tally: Tally) -> None:
    """Make one request on a connection of its own."""
    leaf = ""
    try:
        connection = target.connect()
        leaf = _leaf(connection)
        failed = target.get(connection)
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        failed = f"{type(error).__name__}: {error}"
    tally.note(failed=failed, leaf=leaf)


class KeptAlive:
    """A connection that is used again and again."""

    def __init__(self) -> None:
        self.connection: http.client.HTTPSConnection | None = None

    def __call__(self, target: Target, tally: Tally) -> None:
        """Make one request, and once more if the reused connection closed before any answer."""
        reused = self.connection is not None
        retried = False
        try:
            try:
                failed = self._get(target)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # RFC 9112 section 9.3.1: a GET may be sent again if nothing of an answer came.
                if not reused:
                    raise
                retried, self.connection = True, None
                failed = self._get(target)
        except (OSError, http.client.HTTPException) as error:
            failed, self.connection = f"{type(error).__name__}: {error}", None
        tally.note(retried=retried, failed=failed)

    def _get(self, target: Target) -> str:
        if self.connection is None:
            self.connection = target.connect()
        return target.get(self.connection)


def _leaf(connection: http.client.HTTPSConnection) -> str:
    import hashlib

    assert isinstance(connection.sock, ssl.SSLSocket)
    return hashlib.sha256(connection.sock.getpeercert(binary_form=True) or b"").hexdigest()


def load(target: Target, *, keep_alive: bool, count: int) -> Tally:
    """Make requests until standard input has ended and so many were made."""
    tally, over = Tally(), threading.Event()

    def work() -> None:
        once = KeptAlive() if keep_alive else new_connection_each
        while not over.is_set():
            once(target, tally)

    workers = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    end, watched = time.monotonic() + LONGEST, True
    while time.monotonic() < end and (watched or tally.requests < count):
        readable, _, _ = select.select([sys.stdin] if watched else [], [], [], 0.1)
        if readable and not sys.stdin.readline():
            watched = False
    over.set()
    for worker in workers:
        worker.join()
    return tally


def main(kind: str, address: str, name: str, roots: str, count: str) -> None:
    """Load, and print the tally as JSON. ``kind`` is `new` or `keep-alive`."""
    tally = load(Target(address, name, roots), keep_alive=kind == "keep-alive", count=int(count))
    print(
        json.dumps(
            {
                "requests": tally.requests,
                "retried": tally.retried,
                "failed": dict(tally.failed),
                "leaves": dict(tally.leaves),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

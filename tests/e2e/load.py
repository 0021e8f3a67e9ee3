"""A constant load of HTTPS requests, counted: the program that makes it, and a test's hold on it.

The program says when the load flows. It stops by itself: at its end of time, or after so many
requests once its standard input has ended, which says that what was to be watched is over.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKERS = 4
SECONDS = 10.0
"""One request's patience."""

LONGEST = 600.0
"""Seconds after which a load ends whatever was asked for."""

FLOWING = "flowing"
FLOWS = 40
"""Requests, all of them answered, after which a load counts as one."""

NEW, KEEP_ALIVE = "new", "keep-alive"
BACKEND = re.compile(rb"backend-\d+")


@dataclass
class Seen:
    """A leaf, by the connections that were shown it; moments are seconds since the start."""

    connections: int
    first: float
    last: float


@dataclass
class Tally:
    """What happened to the requests."""

    requests: int = 0
    retried: int = 0
    """Sent once more, because a reused connection closed before any byte of the answer."""

    watched: bool = False
    """Whether the load went on until it was told that what was to be watched is over."""

    failed: Counter[str] = field(default_factory=Counter)
    backends: Counter[str] = field(default_factory=Counter)
    """Who answered."""

    leaves: dict[str, dict[str, Seen]] = field(default_factory=lambda: defaultdict(dict))
    """By the address asked, then by the SHA-256 of the leaf that it showed."""

    @property
    def all_leaves(self) -> set[str]:
        """Return the SHA-256 of every leaf that any address showed."""
        return {leaf for shown in self.leaves.values() for leaf in shown}

    def to_json(self) -> str:
        """Return it as one line."""
        leaves = {
            address: {leaf: vars(seen) for leaf, seen in shown.items()}
            for address, shown in self.leaves.items()
        }
        return json.dumps({**vars(self), "leaves": leaves})

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """Return what `to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        leaves = {
            address: {leaf: Seen(**seen) for leaf, seen in shown.items()}
            for address, shown in data.pop("leaves").items()
        }
        failed, backends = Counter(data.pop("failed")), Counter(data.pop("backends"))
        return cls(**data, failed=failed, backends=backends, leaves=leaves)


# What the program does


class Counting:
    """A tally that many workers write into."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def connected(self, address: str, leaf: str) -> None:
        """Count a connection, and remember when this leaf was shown."""
        with self.lock:
            at = time.monotonic() - self.began
            seen = self.tally.leaves[address].setdefault(leaf, Seen(0, at, at))
            seen.connections, seen.last = seen.connections + 1, at

    def ended(self, *, retried: bool, failed: str = "", backend: str = "") -> None:
        """Count one request."""
        with self.lock:
            self.tally.requests += 1
            self.tally.retried += retried
            if failed:
                self.tally.failed[failed] += 1
            if backend:
                self.tally.backends[backend] += 1


class NothingCameError(http.client.RemoteDisconnected):
    """A connection closed before any byte of the answer."""


class Answer(http.client.HTTPResponse):
    """An answer that tells apart whether its first byte has come."""

    def begin(self) -> None:
        """Read the head."""
        try:
            came = self.fp.peek(1)
        except ConnectionError as error:
            raise NothingCameError(str(error)) from None
        if not came:
            raise NothingCameError("closed without an answer")
        super().begin()


@dataclass(frozen=True)
class Target:
    """What is asked for."""

    name: str
    roots: str
    path: str = "/lb.html"

    def trust(self) -> ssl.SSLContext:
        """Return what verifies the leaf, against the roots alone."""
        return ssl.create_default_context(cafile=self.roots)


class Client:
    """Asks one address, on a new connection each time or on one that it keeps."""

    def __init__(
        self, target: Target, trust: ssl.SSLContext, address: str, kind: str, counting: Counting
    ) -> None:
        self.target, self.trust, self.address = target, trust, address
        self.keeps = kind == KEEP_ALIVE
        self.counting = counting
        self.connection: http.client.HTTPSConnection | None = None

    def __call__(self) -> None:
        """Make one request, and once more if the kept connection closed before any answer."""
        retried = False
        try:
            try:
                backend = self._ask()
            except NothingCameError:
                # RFC 9112 section 9.3.1: a GET may be sent again if nothing of an answer came.
                if self.connection is None:
                    raise
                retried = True
                self._hang_up()
                backend = self._ask()
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            self.counting.ended(retried=retried, failed=f"{type(error).__name__}: {error}")
            return
        self.counting.ended(retried=retried, backend=backend)

    def _ask(self) -> str:
        """Return the backend that answered.

        Raises:
            NothingCameError: there was no answer; a connection that was new is not kept then.
        """
        connection, new = self.connection or self._connect(), self.connection is None
        try:
            self._send(connection, new=new)
            response = connection.getresponse()
            body = response.read()
        except BaseException:
            if new:
                connection.close()
            raise
        self.connection = connection
        # Without a socket the server has said that this answer was the connection's last.
        if not self.keeps or connection.sock is None:
            self._hang_up()
        found = BACKEND.search(body)
        if response.status != 200 or found is None:
            raise http.client.HTTPException(f"HTTP {response.status}")
        return found.group().decode()

    def _send(self, connection: http.client.HTTPSConnection, *, new: bool) -> None:
        try:
            connection.request("GET", self.target.path)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            if new:
                raise
            raise NothingCameError(str(error)) from None

    def _connect(self) -> http.client.HTTPSConnection:
        name = self.target.name
        connection = http.client.HTTPSConnection(name, timeout=SECONDS, context=self.trust)
        connection.response_class = Answer
        connection.auto_open = 0
        plain = socket.create_connection((self.address, 443), timeout=SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            secure = self.trust.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise
        connection.sock = secure
        leaf = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
        self.counting.connected(self.address, leaf)
        return connection

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def load(clients: Sequence[Sequence[Client]], counting: Counting, count: int, pause: float) -> None:
    """Have each worker use its clients in turn until standard input has ended, and so often."""
    over, tally = threading.Event(), counting.tally

    def work(own: Sequence[Client]) -> None:
        for once in itertools.cycle(own):
            once()
            if over.wait(pause):
                return

    with ThreadPoolExecutor(len(clients)) as pool:
        working = [pool.submit(work, own) for own in clients]
        try:
            _watch(tally, count, lambda: any(each.done() for each in working))
        finally:
            over.set()
        for each in working:
            each.result()


def _watch(tally: Tally, count: int, broken: Callable[[], bool]) -> None:
    """Return when the load has done what it is for."""
    end, flows = time.monotonic() + LONGEST, False
    while time.monotonic() < end and not broken():
        if not flows and tally.failed:
            return
        if not flows and tally.requests >= FLOWS:
            flows = True
            print(FLOWING, flush=True)
        if tally.watched:
            if tally.requests >= count:
                return
            time.sleep(0.05)
            continue
        readable, _, _ = select.select([sys.stdin], [], [], 0.05)
        tally.watched = bool(readable) and not sys.stdin.readline()


def main(kind: str, addresses: str, name: str, roots: str, count: str, pause: str) -> None:
    """Load the addresses, separated by commas, in turn, and print the tally."""
    target, counting = Target(name, roots), Counting()
    trust, among = target.trust(), addresses.split(",")
    clients = [
        [Client(target, trust, address, kind, counting) for address in _from(among, worker)]
        for worker in range(WORKERS)
    ]
    load(clients, counting, int(count), float(pause))
    print(counting.tally.to_json())


def _from(addresses: Sequence[str], worker: int) -> list[str]:
    """Return the addresses, each worker's beginning with another one."""
    begin = worker % len(addresses)
    return [*addresses[begin:], *addresses[:begin]]


# What a test does with it


class Load:
    """A load that flows inside the block; `over` ends and counts it."""

    def __init__(
        self,
        before: Sequence[str],
        kind: str,
        addresses: Sequence[str],
        target: Target,
        *,
        count: int = 0,
        pause: float = 0.0,
    ) -> None:
        words = [kind, ",".join(addresses), target.name, target.roots, str(count), str(pause)]
        self.argv = [*before, sys.executable, str(Path(__file__)), *words]

    def __enter__(self) -> Load:
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != FLOWING:
            self.__exit__()
            raise AssertionError(f"the load does not flow: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def over(self) -> Tally:
        """Say that what was to be watched is over, and return what happened to the requests."""
        told, _ = self.process.communicate(timeout=LONGEST)
        assert self.process.returncode == 0
        return Tally.from_json(told)


if __name__ == "__main__":
    main(*sys.argv[1:])

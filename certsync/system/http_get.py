"""HTTP requests with one deadline from the lookup to the last byte, and a size limit.

`timeout` in Python's libraries limits each read: a server that sends a byte now and then could
block a run, and with it the fleet lock, indefinitely.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import partial
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from certsync import __version__
from certsync.system import dns
from certsync.system.deadline import Deadline

SCHEMES = ("http", "https")
AGENT = {"User-Agent": f"certsync/{__version__}"}
NONE: Mapping[str, str] = {}
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Limits:
    """The limits of one request."""

    seconds: float
    """For everything, including redirects."""

    most: int
    """Bytes read of the body."""

    redirects: int = 0
    """How many to follow."""


@dataclass(frozen=True)
class Answer:
    """A server's answer."""

    status: int
    headers: Message
    body: bytes
    """Its first bytes."""


def get(
    url: str,
    limits: Limits,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = NONE,
    context: ssl.SSLContext | None = None,
    directly: bool = False,
) -> Answer:
    """Return the answer for a URL, whatever its status.

    A redirect is only followed to http or https, and never from https to http; otherwise it is the
    answer. ``directly``: ignore proxies set in the environment.

    Raises:
        TimeoutError: the answer was not complete in time.
        OSError, http.client.HTTPException, ValueError: there is no answer, or the URL is invalid.
    """
    deadline = Deadline(limits.seconds)
    for left in range(limits.redirects, -1, -1):
        if urlsplit(url).scheme not in SCHEMES:
            raise ValueError("not an http:// or https:// address")
        request = Request(url, headers={**AGENT, **headers}, method=method)  # noqa: S310  # see above
        opener = _opener(deadline, context, directly=directly)
        answer = _asked(opener, request, deadline, limits.most)
        target = _target(url, answer)
        if not target or not left:
            return answer
        url = target
    raise AssertionError("the last iteration returns")


def _target(url: str, answer: Answer) -> str:
    """Return a redirect's target if it may be followed; else nothing."""
    location = answer.headers.get("Location", "") if answer.status in REDIRECTS else ""
    target = urljoin(url, location) if location else ""
    allowed = ("https",) if urlsplit(url).scheme == "https" else SCHEMES
    return target if urlsplit(target).scheme in allowed else ""


def _opener(
    deadline: Deadline, context: ssl.SSLContext | None, *, directly: bool
) -> OpenerDirector:
    # No other handlers: it opens no files, follows no redirects and raises for no status.
    opener = OpenerDirector()
    for handler in (_Plain(deadline), _Secure(deadline, context)):
        opener.add_handler(handler)
    if not directly:
        opener.add_handler(ProxyHandler())
    return opener


def _asked(opener: OpenerDirector, request: Request, deadline: Deadline, most: int) -> Answer:
    try:
        with opener.open(request, timeout=deadline.left()) as response:
            body = response.read(most) if most else b""
            return Answer(response.status, response.headers, body)
    except URLError as error:
        reason = error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))
        raise _in_time(reason, deadline) from None
    except OSError as error:
        raise _in_time(error, deadline) from None


def _in_time(error: OSError, deadline: Deadline) -> OSError:
    """Return the error to raise: a timeout of ours is reported with the total limit."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimeoutError(f"no complete answer within {deadline.seconds:g} s")
    return error


def begun(connection: socket.socket, method: str, deadline: Deadline) -> http.client.HTTPResponse:
    """Return the answer to a request sent on a connection, once its headers have arrived.

    Raises:
        OSError, http.client.HTTPException, ValueError: there is no answer, or not in time.
    """
    answer = _Response(deadline, connection, method=method)
    answer.begin()
    return answer


class _Timed(io.RawIOBase):
    """A connection's data; each read gets the time that is left."""

    def __init__(self, deadline: Deadline, connection: socket.socket) -> None:
        self._deadline, self._connection = deadline, connection
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Source:
    """A connection in the form from which `http.client` reads an answer."""

    def __init__(self, deadline: Deadline, connection: socket.socket) -> None:
        self._deadline, self._connection = deadline, connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self._deadline, self._connection))


class _Response(http.client.HTTPResponse):
    def __init__(
        self, deadline: Deadline, connection: socket.socket, *others: Any, **named: Any
    ) -> None:
        source: Any = _Source(deadline, connection)
        super().__init__(source, *others, **named)


def _timed(connection: Any, deadline: Deadline) -> Any:
    """Make a connection look up, connect and read within a deadline."""
    # `http.client` has these two hooks for it, one of them private.
    connection._create_connection = partial(_connected, deadline)  # noqa: SLF001
    connection.response_class = partial(_Response, deadline)
    return connection


def _connected(deadline: Deadline, address: tuple[str, int], *_others: Any) -> socket.socket:
    found = dns.resolved(*address, seconds=deadline.left())
    for index, (family, kind, protocol, _, place) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            # An address that does not answer must leave time for the next.
            connection.settimeout(deadline.left() / (len(found) - index))
            connection.connect(place)
            connection.settimeout(deadline.left())
        except OSError:
            connection.close()
            if index == len(found) - 1:
                raise
        else:
            return connection
    raise OSError("the name has no address")


class _Plain(HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def _made(self, host: str, **options: Any) -> Any:
        return _timed(http.client.HTTPConnection(host, **options), self._deadline)

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req)


class _Secure(HTTPSHandler):
    def __init__(self, deadline: Deadline, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._deadline, self._verified = deadline, context or ssl.create_default_context()

    def _made(self, host: str, **options: Any) -> Any:
        return _timed(http.client.HTTPSConnection(host, **options), self._deadline)

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req, context=self._verified)

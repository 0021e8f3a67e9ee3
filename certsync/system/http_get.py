"""A request over HTTP that ends: one deadline from the look-up to the last byte, and a size.

`timeout` of Python's own libraries limits each read, so that a server which sends a byte now and
then holds a run, and the fleet lock with it, for as long as it likes.
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
    """How much may be asked of one request."""

    seconds: float
    """For all of it, redirects among it."""

    most: int
    """Bytes of the body that are read."""

    redirects: int = 0
    """How many are followed."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

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

    A redirect is never followed to another scheme than http and https, nor from https to http: then
    it is the answer. ``directly``: a proxy that the environment names is not asked.

    Raises:
        TimeoutError: the answer was not whole in time.
        OSError, http.client.HTTPException, ValueError: there is none, or the URL is none.
    """
    deadline = Deadline(limits.seconds)
    for left in range(limits.redirects, -1, -1):
        if urlsplit(url).scheme not in SCHEMES:
            raise ValueError("it is no http:// or https:// address")
        request = Request(url, headers={**AGENT, **headers}, method=method)  # noqa: S310  # see above
        opener = _opener(deadline, context, directly=directly)
        answer = _asked(opener, request, deadline, limits.most)
        target = _target(url, answer)
        if not target or not left:
            return answer
        url = target
    raise AssertionError("the last round returns")


def _target(url: str, answer: Answer) -> str:
    """Return where a redirect leads, if it may be followed; else nothing."""
    location = answer.headers.get("Location", "") if answer.status in REDIRECTS else ""
    target = urljoin(url, location) if location else ""
    allowed = ("https",) if urlsplit(url).scheme == "https" else SCHEMES
    return target if urlsplit(target).scheme in allowed else ""


def _opener(
    deadline: Deadline, context: ssl.SSLContext | None, *, directly: bool
) -> OpenerDirector:
    # Nothing else is added: it opens no files, and follows and raises nothing by itself.
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
    """Return the error to raise: a limit of ours that has passed is told as the whole of it."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimeoutError(f"no whole answer within {deadline.seconds:g} s")
    return error


def begun(connection: socket.socket, method: str, deadline: Deadline) -> http.client.HTTPResponse:
    """Return the answer to a request that was sent on a connection, once its headers are there.

    Raises:
        OSError, http.client.HTTPException, ValueError: there is none, or not in time.
    """
    answer = _Response(deadline, connection, method=method)
    answer.begin()
    return answer


class _Timed(io.RawIOBase):
    """What comes on a connection, each read of it given what is left of the time."""

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
    """A connection as `http.client` reads an answer from it."""

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
    """Return a connection that looks up, connects and reads within a deadline."""
    # `http.client` has these two places for it, one of them without a public name.
    connection._create_connection = partial(_connected, deadline)  # noqa: SLF001
    connection.response_class = partial(_Response, deadline)
    return connection


def _connected(deadline: Deadline, address: tuple[str, int], *_others: Any) -> socket.socket:
    found = dns.resolved(*address, seconds=deadline.left())
    for index, (family, kind, protocol, _, place) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            # One address that does not answer leaves time for the next.
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

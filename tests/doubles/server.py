"""HTTP on a socket, answered by a double."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Protocol

Around = Callable[[], AbstractContextManager[object]]


class Answered(Protocol):
    """What is said to a request."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def body(self) -> Any:
        """What becomes JSON; None: nothing."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers besides the usual ones."""


class Answering(Protocol):
    """What answers requests."""

    broken: list[str]

    def take(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Answered | None:
        """Answer one request; None: the connection is to be cut."""


class Server(HTTPServer):
    """Has a double answer each request, one after the other, within ``around()``."""

    def __init__(self, double: Answering, listening: socket.socket, around: Around) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.double, self.around = double, around

    def handle_error(self, *_arguments: object) -> None:
        """Keep what went wrong in the double, instead of printing it."""
        self.double.broken.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _take(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.around():
            answer = self.server.double.take(
                self.command, self.path, dict(self.headers.items()), content
            )
        if answer is None:
            return
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _take  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

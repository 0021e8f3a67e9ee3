"""HTTP on a socket, answered by a double."""

from __future__ import annotations

import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
        """What becomes JSON; bytes: XML, unless the headers say otherwise; None: nothing."""

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


class Front(Answering, Protocol):
    """A provider's API as an end-to-end test has it, whatever keeps its state."""

    faults: list[Any]
    """What goes wrong; see `contract.Fault`."""

    calls: list[Any]
    refused: list[str]
    """Requests whose form is wrong."""

    @property
    def changing(self) -> Sequence[Any]:
        """The calls that could have changed something."""

    @property
    def state(self) -> Any:
        """What the provider keeps."""


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
        kind, body = "application/json", b""
        if isinstance(answer.body, bytes):
            kind, body = "text/xml", answer.body
        elif answer.body is not None:
            body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": kind, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _take  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def listening() -> socket.socket:
    """Return a socket that listens on this machine alone."""
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def serve(
    double: Answering, on: Callable[[], socket.socket] = listening, around: Around = nullcontext
) -> Iterator[str]:
    """Run a double while the block lasts, and give the address before each path.

    ``on`` makes the socket that it is asked on. Each request is answered within ``around()``: for
    something that follows the double's state, or has it follow.
    """
    server = Server(double, on(), around)
    port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not double.broken, "\n".join(["the double itself is wrong:", *double.broken])

"""A small web server on this machine, which answers as a test wants and keeps what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


class Web(HTTPServer):
    """The server: ``status`` is its answer, None that it never gives one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status: int | None = 200
        self.location = ""
        self.asked: list[tuple[str, str]] = []
        """Path and body of each request."""

        self.ended = threading.Event()

    @property
    def host(self) -> str:
        """Address and port, as a URL has them."""
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.server.asked.append((self.path, self.rfile.read(length).decode()))
        if self.server.status is None:
            self.server.ended.wait(10)
            return
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def web() -> Iterator[Web]:
    """Run a server while the block lasts."""
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping(begin: bytes, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer every connection with some bytes, and then with one now and then; give the port.

    With ``tls`` that is behind a handshake.
    """
    over = threading.Event()
    threads: list[threading.Thread] = []

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            spoken = tls.wrap_socket(connection, server_side=True) if tls else connection
            with spoken:
                spoken.sendall(begin)
                while not over.wait(0.05):
                    spoken.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                thread = threading.Thread(target=drip, args=(listening.accept()[0],))
                thread.start()
                threads.append(thread)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            for thread in (serving, *threads):
                thread.join()

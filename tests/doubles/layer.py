"""moto's server, with a strict layer before it: AWS' APIs on this machine, as far as we use them.

moto keeps the state, and botocore forms the requests by AWS' own models; so what is wrong in form
is refused already. The layer refuses what moto lets through, fails as a `Fault` tells it to, and
logs each call. A subclass says what moto does not know, each line with its source.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer

from tests.doubles.contract import Fault

REGION, KEY, SECRET = "eu-west-3", "AKIADOUBLE", "double-secret-key-71c2"

Form = dict[str, str]


@dataclass(frozen=True)
class Call:
    """One request, and what became of it."""

    action: str
    form: Mapping[str, str]
    status: int
    """What was answered; 0: the connection was cut."""


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Denied(Exception):
    """The layer refuses: with AWS' code, in words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


@cache
def client(address: str, service: str) -> Any:
    """Return a client of moto's server."""
    return boto3.client(
        service, endpoint_url=address, region_name=REGION, aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )  # fmt: skip


class Layer:
    """What stands before moto. A test sets ``faults``, and looks at ``calls``."""

    reading = ("Describe",)
    """What the names of questions begin with."""

    def __init__(self, moto: str, now: Callable[[], float]) -> None:
        self.moto = moto
        self.now = now
        self.key = KEY
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.broken: list[str] = []

    def client(self, service: str) -> Any:
        """Return a client that goes past the layer."""
        return client(self.moto, service)

    @property
    def changing(self) -> list[Call]:
        """Return the calls that could have changed something."""
        return [each for each in self.calls if not each.action.startswith(self.reading)]

    def before(self, action: str, form: Form) -> None:
        """Refuse what moto lets through."""

    def after(self, action: str, form: Form) -> None:
        """See what was carried out."""

    def instead(self, action: str, form: Form, told: Told) -> Told:
        """Return the answer that moto's should have been."""
        del action, form
        return told

    def take(self, headers: Mapping[str, str], content: bytes) -> Told | None:
        """Answer one request; None: the connection is to be cut."""
        form = dict(parse_qsl(content.decode(), keep_blank_values=True))
        action = form.get("Action", "")
        fault = self._fault(action)
        if fault and fault.meanwhile:
            fault.meanwhile(self)
        told: Told | None = None
        if not fault or not fault.status or fault.carried_out:
            told = self._answer(action, form, headers, content)
        if fault and fault.status:
            told = self._error(fault.status, fault.words, "it is told to fail", fault.headers)
        if fault and fault.cut:
            told = None
        self.calls.append(Call(action, form, told.status if told else 0))
        return told

    def _answer(self, action: str, form: Form, headers: Mapping[str, str], content: bytes) -> Told:
        if f"Credential={self.key}/" not in headers.get("Authorization", ""):
            return self._error(403, "InvalidClientTokenId", "the security token is invalid")
        try:
            self.before(action, form)
        except Denied as denied:
            return self._error(400, denied.code, denied.words)
        told = self._forward(headers, content)
        if told.status < 300:
            self.after(action, form)
        return self.instead(action, form, told) if told.status < 300 else told

    def _forward(self, headers: Mapping[str, str], content: bytes) -> Told:
        connection = HTTPConnection(urlsplit(self.moto).netloc)
        try:
            kept = {k: v for k, v in headers.items() if k.lower() != "host"}
            connection.request("POST", "/", content, kept)
            answer = connection.getresponse()
            return Told(answer.status, answer.read(), {})
        finally:
            connection.close()

    def _error(
        self, status: int, code: str, words: str, headers: Mapping[str, str] | None = None
    ) -> Told:
        told = f"<Error><Code>{escape(code)}</Code><Message>{escape(words)}</Message></Error>"
        # The query protocol's form, and EC2's.
        body = (
            f"<ErrorResponse>{told}<Errors>{told}</Errors><RequestId>1</RequestId></ErrorResponse>"
        )
        return Told(status, body.encode(), headers or {})

    def _fault(self, action: str) -> Fault | None:
        for fault in list(self.faults):
            if not fnmatch(action, fault.on):
                continue
            if fault.passing:
                fault.passing -= 1
                continue
            if fault.until is None:
                fault.until = self.now() + fault.seconds
            if not fault.seconds or self.now() >= fault.until:
                self.faults.remove(fault)
            if not fault.seconds or self.now() < fault.until:
                return fault
        return None


class _Server(HTTPServer):
    layer: Layer

    def handle_error(self, *_arguments: object) -> None:
        """Keep what went wrong in the layer, instead of printing it."""
        self.layer.broken.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = self.server.layer.take(dict(self.headers.items()), content)
        if told is None:
            return
        self.send_response(told.status)
        for name, value in {**told.headers, "Content-Type": "text/xml"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(told.body)))
        self.end_headers()
        self.wfile.write(told.body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def moto() -> Iterator[str]:
    """Run moto's server while the block lasts, and give its address.

    Meanwhile botocore reads AWS' models only once, and not for each client.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        kept = create_loader()
        with patch("botocore.session.create_loader", lambda *_: kept):
            yield f"http://{host}:{port}"
    finally:
        server.stop()


def reset(address: str) -> None:
    """Make moto's state empty."""
    connection = HTTPConnection(urlsplit(address).netloc)
    connection.request("POST", "/moto-api/reset")
    connection.getresponse().read()
    connection.close()


@contextmanager
def serve(layer: Layer) -> Iterator[str]:
    """Run a layer while the block lasts, and give its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.layer = layer
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not layer.broken, "\n".join(["the layer itself is wrong:", *layer.broken])

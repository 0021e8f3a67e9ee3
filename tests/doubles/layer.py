"""moto's server, with a strict layer before it: AWS' APIs on this machine, as far as we use them.

moto keeps the state, and botocore forms the requests by AWS' own models; so what is wrong in form
is refused already. The layer refuses what moto lets through, fails as a `Fault` tells it to, and
logs each call. A subclass says what moto does not know, each line with its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hmac import compare_digest
from http.client import HTTPConnection
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer

from tests.doubles.contract import Fault, met

REGION, KEY, SECRET = "eu-west-3", "AKIADOUBLE", "double-secret-key-71c2"

SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)

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


def signed(headers: Mapping[str, str], content: bytes, key: str, secret: str) -> bool:
    """Return whether a request is signed with these keys, as botocore would sign it."""
    found = SIGNATURE.fullmatch(headers.get("Authorization", ""))
    if not found:
        return False
    told = {name.lower(): value for name, value in headers.items()}
    region, service, names, signature = found.groups()
    request = AWSRequest("POST", f"http://{told['host']}/", data=content)
    for name in names.split(";"):
        request.headers[name] = told[name]
    request.context["timestamp"] = told["x-amz-date"]
    by = SigV4Auth(Credentials(key, secret), service, region)
    made = by.signature(by.string_to_sign(request, by.canonical_request(request)), request)
    return compare_digest(str(made), signature)


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
        self.key, self.secret = KEY, SECRET
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._kept: Any = None

    def client(self, service: str) -> Any:
        """Return a client that goes past the layer."""
        return client(self.moto, service)

    @property
    def state(self) -> Any:
        """Return what moto has, asked past the layer."""
        if self._kept is None:
            self._kept = self.found()
        return self._kept

    def found(self) -> Any:
        """Ask moto for its state."""

    def changed(self) -> None:
        """Know that somebody has changed moto's state past the layer."""
        self._kept = None

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

    def take(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Told | None:
        """Answer one request; None: the connection is to be cut."""
        del method, target
        form = dict(parse_qsl(content.decode(), keep_blank_values=True))
        action = form.get("Action", "")
        fault = met(self.faults, action, self.now())
        if fault and fault.meanwhile:
            fault.meanwhile(self)
        told: Told | None = None
        if not fault or not fault.status or fault.carried_out:
            told = self._answer(action, form, headers, content)
        if fault and fault.status:
            told = self._error(fault.status, fault.words, "it is told to fail", fault.headers)
        if fault and fault.cut:
            told = None
        if not action.startswith(self.reading) or fault:
            self.changed()
        self.calls.append(Call(action, form, told.status if told else 0))
        return told

    def _answer(self, action: str, form: Form, headers: Mapping[str, str], content: bytes) -> Told:
        if f"Credential={self.key}/" not in headers.get("Authorization", ""):
            return self._error(403, "InvalidClientTokenId", "the security token is invalid")
        if not signed(headers, content, self.key, self.secret):
            return self._error(403, "SignatureDoesNotMatch", "the signature does not match")
        try:
            self.before(action, form)
        except Denied as denied:
            self.refused.append(f"{action}: {denied.code}: {denied.words}")
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

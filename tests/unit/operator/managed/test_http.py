"""The client for providers' APIs, against servers on this machine that behave badly."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certsync.operator.balancer.managed import http
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    ManagedError,
    NoSuchError,
    RightError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.http import Api, retry_after, words
from tests.unit.authority import leaf, signer
from tests.unit.fake_web import dripping, web

TOKEN = "dop-v1-54c2e7"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def api(port: int, scheme: str = "http", verify: str | bool = True) -> Api:
    base = f"{scheme}://127.0.0.1:{port}/v4"
    return Api("Example", base, TOKEN, "EXAMPLE_TOKEN", "load_balancer:update", verify=verify)


def response(status: int, body: bytes = b"", headers: bytes = JSON) -> bytes:
    length = f"Content-Length: {len(body)}\r\n".encode()
    return f"HTTP/1.1 {status} So\r\n".encode() + headers + length + b"\r\n" + body


def _read(connection: socket.socket) -> bytes:
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += connection.recv(65536)
    head, _, body = asked.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve one connection after the other; give the port."""

    def run() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Give the port of a server with one answer, and what it is asked."""
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        asked.append(_read(connection))
        connection.sendall(answer)

    with listening(serve) as port:
        yield port, asked


def refused(answer: bytes) -> ManagedError:
    """Return what a change with this answer ends with."""
    with answering(answer) as (port, _), pytest.raises(ManagedError) as raised:
        api(port).send("PUT", "/balancers/7", {"port": 443})
    assert TOKEN not in f"{raised.value!r}{raised.value.message}{raised.value.hint}"
    return raised.value


def test_a_question_has_the_token_the_query_and_our_name() -> None:
    with answering(response(200, b'{"data": [1]}')) as (port, asked):
        assert api(port).get("/balancers", page=2, tag="a b") == {"data": [1]}
    head = asked[0].decode()
    assert head.startswith("GET /v4/balancers?page=2&tag=a+b HTTP/1.1\r\n")
    assert f"Authorization: Bearer {TOKEN}\r\n" in head
    assert "User-Agent: certsync/" in head


def test_a_change_sends_json_and_may_be_answered_by_nothing() -> None:
    with answering(response(204)) as (port, asked):
        assert api(port).send("POST", "/balancers/7/nodes", {"mode": "drain"}) is None
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == {"mode": "drain"}


@pytest.mark.parametrize(
    ("status", "kind", "exit_status"),
    [
        (400, ManagedError, 1), (401, TokenError, 1), (403, RightError, 1), (404, NoSuchError, 1),
        (409, BusyError, 75), (422, ManagedError, 1), (423, BusyError, 75), (429, LimitError, 75),
        (500, UncertainError, 1), (502, UncertainError, 1), (301, UncertainError, 1),
    ],
)  # fmt: skip
def test_each_status_has_its_error(status: int, kind: type[ManagedError], exit_status: int) -> None:
    error = refused(response(status, b'{"message": "port is taken"}'))
    assert (type(error), error.exit_status) == (kind, exit_status)
    assert str(status) in error.message or status == 429
    assert error.hint


def test_the_providers_words_and_the_needed_rights_are_told() -> None:
    error = refused(response(403, b'{"message": "You are not authorized"}'))
    assert error.message == "Example refuses PUT /balancers/7 (403): You are not authorized"
    assert error.hint == "the token in EXAMPLE_TOKEN needs: load_balancer:update"


def test_a_403_with_the_words_of_a_busy_balancer_is_no_missing_right() -> None:
    with answering(response(403, b'{"message": "it processes previous actions"}')) as (port, _):
        busy = replace(api(port), busy="processes previous")
        with pytest.raises(BusyError, match="processes previous actions"):
            busy.send("PUT", "/balancers/7", {})


def test_an_answer_elsewhere_is_not_followed() -> None:
    with web() as other:
        place = f"Location: http://{other.host}/\r\n".encode()
        with answering(response(302, headers=place)) as (port, _):
            with pytest.raises(UncertainError, match=r"leads elsewhere \(302\)"):
                api(port).send("PUT", "/balancers/7", {})
            with pytest.raises(UnansweredError, match="leads elsewhere"):
                api(port).get("/balancers/7")
        assert other.asked == []


@pytest.mark.parametrize("body", [b"<html>", b'{"data": ', b"\xff\xfe", b"[" * 100_000])
def test_an_answer_without_json_tells_nothing(body: bytes) -> None:
    error = refused(response(200, body))
    assert isinstance(error, UncertainError)
    assert "the answer is no JSON" in error.message


def test_an_empty_answer_is_none_to_a_question() -> None:
    with (
        answering(response(200)) as (port, _),
        pytest.raises(UnansweredError, match="the answer is empty"),
    ):
        api(port).get("/balancers/7")


def test_what_is_wrong_with_a_question_has_changed_nothing() -> None:
    with answering(response(500)) as (port, _), pytest.raises(UnansweredError, match="internal"):
        api(port).get("/balancers/7")


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_connection_cut_around_the_request_leaves_it_open_whether_it_was_done(
    before: bool,
) -> None:
    def serve(connection: socket.socket) -> None:
        if not before:
            _read(connection)

    with listening(serve) as port:
        with pytest.raises(UncertainError, match="the connection was lost"):
            api(port).send("PUT", "/balancers/7", {"port": 443})
        with pytest.raises(UnansweredError, match="the connection was lost"):
            api(port).get("/balancers/7")


def test_an_answer_that_is_cut_off_leaves_it_open() -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"
    assert isinstance(refused(cut), UncertainError)


def test_an_answer_that_cannot_be_unpacked_leaves_it_open() -> None:
    packed = response(200, b"not gzip", b"Content-Encoding: gzip\r\n")
    assert isinstance(refused(packed), UncertainError)


@pytest.mark.parametrize(
    "begin",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"],
    ids=["status", "headers", "body"],
)
def test_an_answer_that_drips_ends_with_the_time(
    begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.3)
    with dripping(begin) as port, pytest.raises(UncertainError, match="did not come in time"):
        api(port).send("PUT", "/balancers/7", {})


def test_a_server_that_says_nothing_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.3)
    with web() as server:
        server.status = None
        with pytest.raises(UnansweredError, match="did not come in time"):
            api(server.server_port).get("/balancers/7")


def test_an_endless_answer_is_not_read_on() -> None:
    def serve(connection: socket.socket) -> None:
        _read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b" " * 65536)
        except OSError:
            return

    with listening(serve) as port, pytest.raises(UncertainError, match="the answer is too large"):
        api(port).send("PUT", "/balancers/7", {})


def test_who_cannot_be_reached_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnansweredError, match="cannot be reached") as raised:
        api(port).send("PUT", "/balancers/7", {})
    assert f"http://127.0.0.1:{port}/v4" in raised.value.message


def test_a_name_that_does_not_resolve_was_sent_nothing() -> None:
    there_is_none = Api("Example", "https://api.invalid/v4", TOKEN, "EXAMPLE_TOKEN", "")
    with pytest.raises(UnansweredError, match="cannot be reached"):
        there_is_none.send("PUT", "/balancers/7", {})


def test_a_server_with_another_certificate_gets_no_token(tmp_path: Path) -> None:
    pem, key = tmp_path / "pem", tmp_path / "key"
    private = ec.generate_private_key(ec.SECP256R1())
    pem.write_text(leaf(signer("Another CA"), private, ["127.0.0.1"]))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as spoken:
                got.append(spoken.recv(1))
        except OSError:
            return

    with listening(serve) as port, pytest.raises(UnansweredError, match="is not trusted"):
        api(port, "https").send("PUT", "/balancers/7", {})
    assert got == []


def test_missing_roots_are_told() -> None:
    with pytest.raises(UnansweredError, match="/no/such/roots"):
        api(1, "https", "/no/such/roots").get("/balancers/7")


@pytest.mark.parametrize("token", ["", "abc\n", "a b", "tok\u2026", "\x1b[2Jabc"])
def test_what_cannot_be_a_token_is_refused_without_quoting_it(token: str) -> None:
    with pytest.raises(TokenError) as raised:
        Api("Example", "https://api.invalid", token, "EXAMPLE_TOKEN", "")
    assert "EXAMPLE_TOKEN" in raised.value.message + raised.value.hint
    assert not token or token not in raised.value.message


def test_the_token_is_in_no_log_no_text_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("requests", "urllib3", "urllib3.connectionpool"):
        caplog.set_level(logging.DEBUG, name)
    echo = json.dumps({"message": f"{'.' * 285}token {TOKEN} may not"}).encode()
    for status in (200, 401, 403, 422, 500):
        with answering(response(status, echo)) as (port, _):
            try:
                api(port).send("PUT", "/balancers/7", {"a": 1})
            except ManagedError as error:
                told = f"{error!r} {error.message} {error.hint}"
                assert TOKEN[:6] not in told
    assert "PUT /v4/balancers/7" in caplog.text
    assert TOKEN not in caplog.text + repr(api(1))


def test_a_password_of_netrc_does_not_replace_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with answering(response(204)) as (port, asked):
        api(port).send("DELETE", "/balancers/7")
    assert f"Authorization: Bearer {TOKEN}".encode() in asked[0]
    assert b"Basic" not in asked[0]


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(UnansweredError, match="through the proxy"):
            Api("Example", "https://api.invalid/v4", TOKEN, "EXAMPLE_TOKEN", "").get("/balancers")
    assert asked[0].startswith(b"CONNECT api.invalid:443 ")
    assert TOKEN.encode() not in asked[0]


def test_a_proxy_that_is_not_there_was_given_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    there_is_none = Api("Example", "https://api.invalid/v4", TOKEN, "EXAMPLE_TOKEN", "")
    for proxy in ("http://127.0.0.1:1", "http://"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(UnansweredError, match="through the proxy"):
            there_is_none.send("PUT", "/balancers/7", {})


def test_no_proxy_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with answering(response(204)) as (port, asked):
        api(port).send("DELETE", "/balancers/7")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0), ("7", 7), ("0", 0), ("999999", 300), ("9" * 400, 300), ("-5", 0), ("soon", 0),
        ("1.5", 0), ("Mon, 99 Nov 2026 00:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_never_too_long(text: str, seconds: float) -> None:
    assert retry_after({"Retry-After": text}) == seconds


@pytest.mark.parametrize(
    ("begin", "least", "most"), [(100, 30, 100), (-100, 0, 0), (9_000_000, 300, 300)]
)
def test_retry_after_may_be_a_date(begin: int, least: float, most: float) -> None:
    date = datetime.now(timezone.utc) + timedelta(seconds=begin)
    text = format_datetime(date, usegmt=True)
    assert least <= retry_after({"Retry-After": text}) <= most


def test_a_limit_and_a_busy_balancer_say_how_long_to_wait() -> None:
    for status in (409, 429):
        error = refused(response(status, headers=b"retry-after: 12\r\n"))
        assert isinstance(error, BusyError)
        assert error.seconds == 12


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"id": "x", "message": "Not found"}', "Not found"),
        (b'{"errors": [{"field": "port", "reason": "taken"}, {"reason": "b"}]}', "port: taken; b"),
        (b'{"errors": ["a", 7]}', "a; 7"),
        (b'{"errors": {"a": 1}}', "without a word"),
        (b'{"error": {"code": "locked", "message": "is locked"}}', "is locked"),
        (b'{"error": "no", "message": {"a": 1}}', "{'a': 1}"),
        (b'["a"]', '["a"]'),
        (b"<h1>Bad\r\n\tgateway</h1>", "<h1>Bad? gateway</h1>"),
        (b"", "without a word"),
        (b'{"message": "\\u001b]0;x\\u0007 a\\n\\nerror: b"}', "?]0;x? a error: b"),
        (b"\x1b[2J\xff", "?[2J\ufffd"),
        (b'{"message": "\\u202eabc"}', "?abc"),
    ],
)  # fmt: skip
def test_a_providers_words_are_printable_and_in_one_line(body: bytes, told: str) -> None:
    assert words(body) == told


def test_a_providers_words_are_short() -> None:
    assert len(words(json.dumps({"message": "a" * 100_000}).encode())) == 300
    assert len(words(b"a" * 100_000)) == 300

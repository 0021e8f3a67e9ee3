"""A request ends in time whatever a server does with it, and leads nowhere else than it may."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import josepy
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer import canary
from certsync.issuer.ca import ari, crl
from certsync.issuer.ca.issuance import clock, network
from certsync.issuer.monitoring import heartbeat
from certsync.model.errors import CaSilentError
from certsync.operator.watching import alt_svc, proxy_protocol_check
from certsync.system import dns, http_get, unverified
from certsync.system.deadline import Deadline, within
from certsync.system.http_get import Limits, get
from tests.unit.fake_fleet import NAME, NOW, fleet, machine
from tests.unit.fake_web import dripping, web
from tests.unit.programs.test_receiver import make_pair

SHORT = 0.2
LONGEST = 2.5
"""Seconds that something with that limit may take on a busy machine, and a drip never would."""

FEW = Limits(SHORT, 1024)
DRIPS = {
    "nothing": b"",
    "the status line": b"HTTP/1.1 200 ",
    "a header": b"HTTP/1.1 200 OK\r\nX-Long: ",
    "the body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    "a body without a length": b"HTTP/1.1 200 OK\r\n\r\n",
    "the body of a connection that closes": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    "a closing connection's length": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
    ),
    "a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
    "what comes before an answer": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + b"HTTP/1.1 ",
}

HEADS = [DRIPS[each] for each in ("nothing", "the status line", "a header")]
BODIES = [DRIPS[each] for each in ("a header", "the body", "the body of a connection that closes")]


def timed(work: Callable[[], object]) -> object:
    begun = time.monotonic()
    try:
        return work()
    finally:
        assert time.monotonic() - begun < LONGEST


@pytest.mark.parametrize("begin", DRIPS.values(), ids=DRIPS)
def test_a_server_that_drips_is_given_up_in_time(begin: bytes) -> None:
    with dripping(begin) as port, pytest.raises(TimeoutError) as caught:
        timed(lambda: get(f"http://127.0.0.1:{port}/", FEW))
    assert str(caught.value) == "no complete answer within 0.2 s"


@pytest.mark.parametrize("begin", BODIES)
def test_so_is_one_behind_tls(tmp_path: Path, begin: bytes) -> None:
    with dripping(begin, served(tmp_path)) as port, pytest.raises(TimeoutError):
        timed(lambda: get(f"https://127.0.0.1:{port}/", FEW, context=unverified.context()))


def served(folder: Path, name: str = NAME) -> ssl.SSLContext:
    make_pair(folder, name=name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "privkey.pem")
    return context


def test_a_handshake_that_never_ends_is_given_up_in_time() -> None:
    # The head of a TLS record that says it goes on for 16 kB.
    with dripping(b"\x16\x03\x03\x40\x00") as port:
        with pytest.raises(OSError, match=r"."):
            timed(lambda: get(f"https://127.0.0.1:{port}/", FEW))
        with (
            pytest.raises(OSError, match=r"."),
            unverified.opened("127.0.0.1", port, NAME, Deadline(SHORT)),
        ):
            pass


def test_a_redirect_without_an_end_takes_no_longer() -> None:
    with web() as server:
        server.status, server.location = 302, "/again"
        limits = Limits(5, 10, 3)
        assert get(f"http://{server.host}/", limits).status == 302
        assert [path for path, _ in server.asked] == ["/", "/again", "/again", "/again"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x/", "//[::1"]
)
def test_a_redirect_to_another_scheme_is_the_answer(target: str) -> None:
    with web() as server:
        server.status, server.location = 302, target
        try:
            assert get(f"http://{server.host}/", Limits(5, 10, 3)).status == 302
        except ValueError:
            assert target == "//[::1"
        assert len(server.asked) == 1


def test_a_redirect_from_https_to_http_is_the_answer() -> None:
    redirect = http.client.HTTPMessage()
    redirect["Location"] = "http://ca.example/"
    answer = http_get.Answer(302, redirect, b"")
    assert http_get._target("https://ca.example/", answer) == ""
    assert http_get._target("http://ca.example/a", answer) == "http://ca.example/"
    redirect.replace_header("Location", "b")
    assert http_get._target("https://ca.example/a/c", answer) == "https://ca.example/a/b"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "x", "", "http://[::1/"])
def test_what_is_no_http_address_is_not_asked(url: str) -> None:
    with pytest.raises((ValueError, OSError)):
        get(url, FEW)


def test_no_more_of_a_body_is_read_than_is_wanted() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 100_000) as port:
        answer = get(f"http://127.0.0.1:{port}/", Limits(5, 1000))
    assert (answer.status, answer.body) == (200, b"y" * 1000)


def test_a_second_address_is_asked_where_the_first_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with web() as server, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        ports = (full.getsockname()[1], server.server_port)
        clogs = [clogging(ports[0]) for _ in range(4)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p)) for p in ports]
        monkeypatch.setattr(dns, "resolved", lambda *_args, **_kw: found)
        assert get("http://site.example/", Limits(2, 10)).status == 200
        for each in clogs:
            each.close()


def clogging(port: int) -> socket.socket:
    """Return a connection that takes a place in a server's queue."""
    taking = socket.socket()
    taking.setblocking(False)
    taking.connect_ex(("127.0.0.1", port))
    return taking


def test_a_proxy_of_the_environment_is_asked_unless_it_is_to_be_direct(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with web() as proxy, web() as server:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert get(f"http://{server.host}/x", Limits(5, 10)).status == 200
        assert [path for path, _ in proxy.asked] == [f"http://{server.host}/x"]
        assert get(f"http://{server.host}/x", Limits(5, 10), directly=True).status == 200
        assert [path for path, _ in server.asked] == ["/x"]


# Who asks


@pytest.mark.parametrize("begin", DRIPS.values(), ids=DRIPS)
def test_the_canary_is_held_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(canary, "SECONDS", SHORT)
    one = machine("backend-01", 11, address="127.0.0.1", private_address="127.0.0.1")
    lone = replace(fleet(), backends=(one,), public_addresses=())
    with dripping(begin) as port:
        monkeypatch.setattr(canary, "HTTP_PORT", port)
        found = timed(lambda: [each.reached for each in canary.look(lone, NAME, tmp_path)])
    assert found == [False]


@pytest.mark.parametrize("begin", HEADS)
def test_a_heartbeat_is_held_by_nobody(monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", SHORT)
    with dripping(begin) as port:
        told = timed(lambda: heartbeat.ping(f"http://127.0.0.1:{port}/"))
    assert told == "the heartbeat to http://127.0.0.1 failed: no answer within 0.2 seconds"


@pytest.mark.parametrize("begin", BODIES)
def test_a_revocation_list_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(crl, "SECONDS", SHORT)
    with dripping(begin) as port, pytest.raises(TimeoutError):
        timed(lambda: crl._get(f"http://127.0.0.1:{port}/1.crl"))


@pytest.mark.parametrize("begin", BODIES)
def test_a_cas_suggestion_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(ari, "SECONDS", SHORT)
    context = served(tmp_path, "localhost")
    bundle = str(tmp_path / "cert.pem")
    with dripping(begin, context) as port, pytest.raises(CaSilentError) as caught:
        timed(lambda: ari._get(f"https://localhost:{port}/", bundle, NOW))
    assert caught.value.message == (
        "the CA's renewal information cannot be fetched: no complete answer within 0.2 s"
    )


@pytest.mark.parametrize("begin", HEADS)
def test_what_is_asked_behind_a_handshake_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(clock, "SECONDS", SHORT)
    with dripping(begin, served(tmp_path)) as port:
        assert timed(lambda: alt_svc.promise("127.0.0.1", port, NAME, SHORT)) == ""
        assert (
            timed(lambda: proxy_protocol_check.drops_requests("127.0.0.1", port, NAME, "/", SHORT))
            is False
        )
        assert timed(lambda: clock.unverified_date(f"https://127.0.0.1:{port}/dir")) is None


@pytest.mark.parametrize("begin", BODIES)
def test_a_request_of_the_acme_library_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(network, "SECONDS", SHORT)
    key = josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    with dripping(begin) as port, pytest.raises(requests.exceptions.RequestException):
        timed(lambda: network.Network(key, "").get(f"http://127.0.0.1:{port}/"))


def test_a_look_up_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kw: time.sleep(LONGEST + 1))
    with pytest.raises(TimeoutError):
        timed(lambda: dns.resolved(NAME, 80, SHORT))
    with pytest.raises(TimeoutError):
        timed(lambda: get(f"http://{NAME}/", FEW))


def test_what_ends_in_time_returns_or_raises_as_it_did() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)

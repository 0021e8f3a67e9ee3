"""The patience of the network, against a real HTTP server on the loopback address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import josepy
import pytest
from acme import messages
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.ca.issuance.network import NONCE_TRIES, USER_AGENT, Network
from certsync.issuer.ca.issuance.problem import translate_acme_errors
from certsync.model.errors import CaBusyError, CaSilentError

BAD_NONCE = {"type": "urn:ietf:params:acme:error:badNonce", "detail": "no"}


class Ca(BaseHTTPRequestHandler):
    """Answers what the test has laid ready, then 200."""

    ready: list[tuple[int, dict[str, str], Any]]
    agents: set[str]
    nonces = 0

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Ca.agents.add(self.headers["User-Agent"])
        Ca.nonces += 1
        status: int
        headers: dict[str, str]
        body: Any
        status, headers, body = (200, {}, {})
        if self.command != "HEAD" and Ca.ready:
            status, headers, body = Ca.ready.pop(0)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/json" if status < 400 else "application/problem+json"
        for key, value in {"Content-Type": kind, "Replay-Nonce": f"n{Ca.nonces:07}"}.items():
            self.send_header(key, value)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_HEAD = _answer  # noqa: N815  http.server's names

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Ca.ready, Ca.agents = [], set()
    server = HTTPServer(("127.0.0.1", 0), Ca)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def network() -> Network:
    key = josepy.JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    return Network(key, "/etc/ssl/certs/ca-certificates.crt")


def post(network: Network, url: str) -> Any:
    return network.post(url, messages.Registration(), new_nonce_url=url).json()


def test_a_bad_nonce_is_tried_again_until_a_bound(network: Network, url: str) -> None:
    Ca.ready = [(400, {}, BAD_NONCE)] * (NONCE_TRIES - 1)
    assert post(network, url) == {}
    Ca.ready = [(400, {}, BAD_NONCE)] * NONCE_TRIES
    with pytest.raises(messages.Error):
        post(network, url)


@pytest.mark.parametrize("status", [429, 503])
def test_a_short_retry_after_is_waited_for(network: Network, url: str, status: int) -> None:
    Ca.ready = [(status, {"Retry-After": "0"}, {"detail": "busy"})] * 2
    assert post(network, url) == {}


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_retry_after_is_told_with_its_moment(
    network: Network, url: str, status: int
) -> None:
    Ca.ready = [(status, {"Retry-After": "3600"}, {"detail": "too many"})]
    with pytest.raises(CaBusyError) as caught:
        post(network, url)
    assert caught.value.message.startswith(
        f"the CA is busy (HTTP {status}, too many); retry after 2"
    )
    assert caught.value.exit_status == 75


def test_a_ca_that_stays_busy_is_not_asked_for_ever(network: Network, url: str) -> None:
    Ca.ready = [(503, {"Retry-After": "0"}, b"<html>")] * 9
    with pytest.raises(CaBusyError), translate_acme_errors("asking"):
        network.get(url)
    assert len(Ca.ready) == 6


def test_we_say_who_we_are(network: Network, url: str) -> None:
    post(network, url)
    assert {USER_AGENT} == Ca.agents
    assert USER_AGENT.startswith("certsync/")


def test_the_cas_date_is_remembered(network: Network, url: str) -> None:
    assert network.ca_date is None
    network.get(url)
    assert network.ca_date is not None


@pytest.mark.parametrize("wait", ["9" * 15, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_without_an_end_is_told_and_breaks_nothing(
    url: str, network: Network, wait: str
) -> None:
    Ca.ready = [(503, {"Retry-After": wait}, {"detail": "a\x1b[2Jb\nc"})]
    with pytest.raises(CaBusyError) as caught, translate_acme_errors("asking"):
        network.get(url)
    assert "(HTTP 503, a?[2Jb?c)" in caught.value.message
    assert caught.value.until is not None


@pytest.mark.parametrize("error", [TypeError("x"), AttributeError("x"), OverflowError("x")])
def test_what_the_libraries_stumble_over_is_told_as_no_acme(error: Exception) -> None:
    with pytest.raises(CaSilentError) as caught, translate_acme_errors("asking"):
        raise error
    assert caught.value.message == "the CA's answer is not valid ACME, while asking: x"

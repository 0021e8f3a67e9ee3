"""A probe against a real TLS server on the loopback address."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from certsync.model.certificate import parse_chain
from certsync.model.proof import Served, Unreachable
from certsync.system.handshake import probe
from tests.unit.programs.test_receiver import NAME, make_pair


class Silent(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Serve a self-signed certificate; give the port and the certificate's file."""
    make_pair(tmp_path)
    server = HTTPServer(("127.0.0.1", 0), Silent)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "privkey.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], tmp_path / "cert.pem"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_trusted_certificate_is_seen_as_clients_see_it(served: tuple[int, Path]) -> None:
    port, certificate = served
    seen = probe("127.0.0.1", port, NAME, str(certificate))
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert seen == Served((der,), "", parse_chain(certificate.read_text()).not_before)


def test_one_that_clients_refuse_is_seen_all_the_same_with_the_reason(
    served: tuple[int, Path],
) -> None:
    port, certificate = served
    wrong_name = probe("127.0.0.1", port, "other.example.com", str(certificate))
    assert isinstance(wrong_name, Served)
    assert "other.example.com" in wrong_name.refusal
    roots = "/etc/ssl/certs/ca-certificates.crt"
    untrusted = probe("127.0.0.1", port, NAME, roots)
    assert isinstance(untrusted, Served)
    assert untrusted.refusal.startswith("self")
    assert untrusted.chain == wrong_name.chain


def test_a_port_that_nobody_listens_on_is_unreachable(served: tuple[int, Path]) -> None:
    _, certificate = served
    assert probe("127.0.0.1", 1, NAME, str(certificate)) == Unreachable("connection refused")

"""A probe against a real TLS server on the loopback address."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.model.certificate import key_pem, parse_chain
from certsync.model.proof import Served, Unreachable
from certsync.system.handshake import probe
from tests.unit import authority
from tests.unit.authority import signer
from tests.unit.programs.test_receiver import NAME, make_pair


class Silent(BaseHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve the pair in a folder; give the port."""
    server = HTTPServer(("127.0.0.1", 0), Silent)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "privkey.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def seen_at(port: int, name: str, roots: str, off: int = 0) -> Served | Unreachable:
    """Return what is served here; ``off`` are days from now to the time to judge by."""
    at = datetime.now(timezone.utc) + timedelta(days=off)
    return probe("127.0.0.1", port, name, roots, at)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Serve a self-signed certificate; give the port and the certificate's file."""
    make_pair(tmp_path)
    with serving(tmp_path) as port:
        yield port, tmp_path / "cert.pem"


def test_a_trusted_certificate_is_seen_as_clients_see_it(served: tuple[int, Path]) -> None:
    port, certificate = served
    seen = seen_at(port, NAME, str(certificate))
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    leaf = parse_chain(certificate.read_text())
    assert seen == Served((der,), "", leaf.not_before, leaf.not_after)


def test_of_one_that_has_expired_the_end_is_seen_and_of_one_for_another_name_nothing(
    tmp_path: Path,
) -> None:
    key, root = ec.generate_private_key(ec.SECP256R1()), signer("a root")
    expired = authority.leaf(root, key, [NAME], begin=timedelta(days=-9), days=8)
    leaf = parse_chain(expired)
    (tmp_path / "cert.pem").write_text(expired)
    (tmp_path / "privkey.pem").write_bytes(key_pem(key))
    (tmp_path / "root.pem").write_text(root.pem)
    with serving(tmp_path) as port:
        roots = str(tmp_path / "root.pem")
        seen = seen_at(port, NAME, roots)
        other = seen_at(port, "other.example.com", roots)
    assert isinstance(seen, Served)
    assert seen == Served(seen.chain, "certificate has expired", leaf.not_before, leaf.not_after)
    assert isinstance(other, Served)
    assert (other.not_before, other.not_after) == (None, None)


@pytest.mark.parametrize(
    ("begin", "off", "refusal"),
    [
        pytest.param(-9, -5, "", id="expired by our clock, valid by the one to go by"),
        pytest.param(90, 91, "", id="not valid yet by our clock, valid by the one to go by"),
        pytest.param(-1, 99, "certificate has expired", id="valid by our clock, expired"),
        pytest.param(-1, -99, "certificate is not yet valid", id="valid by our clock, not yet"),
        pytest.param(90, 0, "certificate is not yet valid", id="not valid yet by our clock"),
    ],
)
def test_dates_are_judged_by_the_time_to_go_by_and_seen_in_any_case(
    tmp_path: Path, begin: int, off: int, refusal: str
) -> None:
    key, root = (
        ec.generate_private_key(ec.SECP256R1()),
        signer("a root", begin=timedelta(days=-400), days=4000),
    )
    text = authority.leaf(root, key, [NAME], begin=timedelta(days=begin), days=8)
    leaf = parse_chain(text)
    (tmp_path / "cert.pem").write_text(text)
    (tmp_path / "privkey.pem").write_bytes(key_pem(key))
    (tmp_path / "root.pem").write_text(root.pem)
    with serving(tmp_path) as port:
        seen = seen_at(port, NAME, str(tmp_path / "root.pem"), off)
    assert isinstance(seen, Served)
    assert (seen.refusal, seen.not_before, seen.not_after) == (
        refusal, leaf.not_before, leaf.not_after,
    )  # fmt: skip


def test_one_that_clients_refuse_is_seen_all_the_same_with_the_reason(
    served: tuple[int, Path],
) -> None:
    port, certificate = served
    wrong_name = probe(
        "127.0.0.1", port, "other.example.com", str(certificate), datetime.now(timezone.utc)
    )
    assert isinstance(wrong_name, Served)
    assert "other.example.com" in wrong_name.refusal
    roots = "/etc/ssl/certs/ca-certificates.crt"
    untrusted = seen_at(port, NAME, roots)
    assert isinstance(untrusted, Served)
    assert untrusted.refusal.startswith("self")
    assert untrusted.chain == wrong_name.chain


def test_a_port_that_nobody_listens_on_is_unreachable(served: tuple[int, Path]) -> None:
    _, certificate = served
    assert seen_at(1, NAME, str(certificate)) == Unreachable("connection refused")

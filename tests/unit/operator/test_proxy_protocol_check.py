"""Whether a request is cut off where the handshake before it came through."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certsync.operator.watching.proxy_protocol_check import drops_requests, finding
from tests.unit.programs.test_receiver import make_pair

NAME = "www.example.com"


@contextmanager
def answering(folder: Path, answer: bytes, *, tls: bool = True) -> Iterator[int]:
    """Answer one connection with these bytes, and give the port."""
    make_pair(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "privkey.pem")

    def serve() -> None:
        plain, _ = server.accept()
        with plain:
            if not tls:
                return
            with context.wrap_socket(plain, server_side=True) as opened:
                opened.recv(4096)
                opened.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("answer", "tls", "cut"),
    [
        (b"", True, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, False),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", True, False),
        (b"something else", True, False),
        (b"", False, False),
    ],
)
def test_only_a_connection_that_ends_without_an_answer_is_one(
    tmp_path: Path, answer: bytes, tls: bool, cut: bool
) -> None:
    with answering(tmp_path, answer, tls=tls) as port:
        assert drops_requests("127.0.0.1", port, NAME, "/", 5) is cut


def test_a_port_that_nobody_listens_on_cuts_nothing_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not drops_requests("127.0.0.1", port, NAME, "/", 5)


def test_a_person_is_told_what_to_write() -> None:
    assert finding(8443) == (
        "TLS works, but no request is answered: set balancer.networks to the addresses that the "
        "balancer connects from, and its PROXY protocol as `certsync rules` says for port 8443"
    )

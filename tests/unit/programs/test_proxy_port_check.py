"""The balancer's question to the backends: only an answer counts. Real TLS on loopback."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from certsync.model.options import Balancing
from certsync.operator.balancer import gate
from certsync.programs import proxy_port_check
from tests.unit.fake_fleet import NAME, fleet, lineage

Answer = Callable[[ssl.SSLSocket], None]
GREETING = b"PROXY UNKNOWN\r\n"


def a_page(tls: ssl.SSLSocket) -> None:
    """Answer as nginx answers a balancer."""
    asked = tls.recv(1000)
    assert asked.startswith(b"GET /health HTTP/1.1\r\nHost: passthrough.example.com\r\n")
    tls.sendall(b"HTTP/1.1 503 Out of order\r\nContent-Length: 0\r\n\r\n")


def nothing(tls: ssl.SSLSocket) -> None:
    """Answer as nginx answers a stranger: the handshake is all there is."""
    tls.recv(1000)


def something_else(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"220 mail.example.com ESMTP\r\n")


def silence(tls: ssl.SSLSocket) -> None:
    """Hold the connection until the other side has had enough."""
    tls.recv(1000)
    tls.recv(1000)


def a_word_now_and_then(tls: ssl.SSLSocket) -> None:
    for byte in b"HTTP":
        tls.sendall(bytes([byte]))
        time.sleep(1.5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a key and a certificate that nobody trusts, in one file."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=nobody", "-days", "1", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@contextmanager
def backend(certificate: Path, answer: Answer) -> Iterator[int]:
    """Serve one connection that begins with a PROXY header; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = server.accept()
        with plain:
            assert plain.recv(len(GREETING), socket.MSG_WAITALL) == GREETING
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    assert names == [NAME]
                    answer(tls)
            except OSError:
                return  # The other side had enough of it.

    thread = threading.Thread(target=serve, daemon=True)
    with server:
        thread.start()
        yield server.getsockname()[1]


def asked(*ports: int, seconds: float = 0.6) -> list[str]:
    """Return the ports that answer, by the program as a balancer runs it, with less patience."""
    text = (
        Path(proxy_port_check.__file__).read_text().replace("SECONDS = 3", f"SECONDS = {seconds}")
    )
    targets = [(str(port), "127.0.0.1", port, NAME, "/health") for port in ports]
    done = subprocess.run(
        [sys.executable, "-c", text, json.dumps(targets)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    print(done.stderr)
    return done.stdout.split()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_who_answers_over_tls_after_the_proxy_header_is_heard_whatever_it_says(
    certificate: Path,
) -> None:
    with backend(certificate, a_page) as one, backend(certificate, a_page) as other:
        assert asked(one, other) == sorted([str(one), str(other)])


@pytest.mark.parametrize("answer", [nothing, something_else, silence, a_word_now_and_then])
def test_who_takes_the_connection_and_does_not_answer_is_not_heard(
    certificate: Path, answer: Answer
) -> None:
    with backend(certificate, answer) as deaf, backend(certificate, a_page) as one:
        assert asked(deaf, one) == [str(one)]


def test_who_is_not_there_is_not_heard(certificate: Path) -> None:
    with backend(certificate, a_page) as one:
        assert asked(free_port(), one) == [str(one)]
        assert asked() == []


def test_all_are_asked_at_the_same_time(certificate: Path) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(backend(certificate, silence)) for _ in range(5)]
        begin = time.monotonic()
        assert asked(*ports, seconds=1.5) == []
        assert 1.5 <= time.monotonic() - begin < 6


def test_each_backend_is_asked_for_a_name_that_it_serves() -> None:
    lineages = (
        lineage(serving=("backend-01", "backend-02")),
        lineage("shop.example.com", serving=("backend-03",)),
    )
    made = fleet(lineages=lineages, balancing=Balancing(health_path="/up", proxy_port=9443))
    assert gate.proxy_port_questions(made) == [
        ("backend-01", "203.0.113.11", 9443, NAME, "/up"),
        ("backend-02", "203.0.113.12", 9443, NAME, "/up"),
        ("backend-03", "203.0.113.13", 9443, "shop.example.com", "/up"),
    ]

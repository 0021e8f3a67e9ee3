"""A TLS connection whose first message comes in two segments, with a pause between them: a program.

Since hybrid key exchanges such a message has some 1.8 kB and fits into no single segment. This
machine's own OpenSSL may not know them, so a list of protocols makes the message that long.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from pathlib import Path

SECONDS, PAUSE = 10.0, 0.5
LEAST = 1700
"""Bytes of the first message."""

PROTOCOLS = ["http/1.1", *(letter * 250 for letter in "abcdef")]
PROGRAM = (sys.executable, str(Path(__file__)))
"""Followed by an address, a server name, a file of roots, and how many bytes go ahead."""


def ask(address: str, name: str, roots: str, ahead: str) -> str:
    """Return the answer to a request for /lb.html."""
    context = ssl.create_default_context(cafile=roots)
    context.set_alpn_protocols(PROTOCOLS)
    ours, theirs = socket.socketpair()
    with socket.create_connection((address, 443), timeout=SECONDS) as network:
        network.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_forth, args=(theirs, network, int(ahead)), daemon=True).start()
        threading.Thread(target=_back, args=(network, theirs), daemon=True).start()
        ours.settimeout(SECONDS)
        with context.wrap_socket(ours, server_hostname=name) as tls:
            tls.sendall(
                f"GET /lb.html HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b""
            while part := tls.recv(65536):
                answer += part
    return answer.decode(errors="replace")


def _forth(client: socket.socket, network: socket.socket, ahead: int) -> None:
    hello = client.recv(65536)
    assert len(hello) >= LEAST, f"a hello of {len(hello)} bytes"
    network.sendall(hello[:ahead])
    time.sleep(PAUSE)
    network.sendall(hello[ahead:])
    while part := client.recv(65536):
        network.sendall(part)


def _back(network: socket.socket, client: socket.socket) -> None:
    while part := network.recv(65536):
        client.sendall(part)
    client.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    print(ask(*sys.argv[1:]))

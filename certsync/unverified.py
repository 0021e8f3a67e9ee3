"""A TLS connection to whoever answers: for what is asked behind it, not for who it is."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def opened(address: str, port: int, name: str, seconds: float) -> Iterator[ssl.SSLSocket]:
    """Open a connection for a server name, and close it after the block.

    Raises:
        OSError: nobody answers within ``seconds``, or no handshake comes about.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        yield tls

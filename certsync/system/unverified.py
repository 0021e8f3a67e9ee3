"""An unverified TLS connection, for checks where the peer's identity does not matter."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from certsync.system.deadline import Deadline


def context() -> ssl.SSLContext:
    """Return a client context that accepts any certificate."""
    found = ssl.create_default_context()
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


@contextmanager
def opened(address: str, port: int, name: str, deadline: Deadline) -> Iterator[ssl.SSLSocket]:
    """Open a connection for a server name, and close it after the block.

    Raises:
        OSError: nothing answers in time, or the handshake fails.
    """
    with socket.create_connection((address, port), timeout=deadline.left()) as plain:
        plain.settimeout(deadline.left())
        with context().wrap_socket(plain, server_hostname=name) as tls:
            tls.settimeout(deadline.left())
            yield tls

"""Check whether requests are dropped although TLS handshakes succeed."""

from __future__ import annotations

import http.client
import ssl

from certsync.system import http_get
from certsync.system.deadline import Deadline
from certsync.system.unverified import opened

SECONDS = 5.0


def drops_requests(address: str, port: int, name: str, path: str, seconds: float = SECONDS) -> bool:
    """Return whether a TLS connection is closed without a response to a request.

    That is how nginx treats a PROXY header from an unknown balancer. A failed handshake, a timeout
    and any response do not count.
    """
    deadline = Deadline(seconds)
    try:
        with opened(address, port, name, deadline) as tls:
            try:
                tls.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
                )
                http_get.begun(tls, "GET", deadline)
            except (ConnectionError, ssl.SSLEOFError):
                # http.client's RemoteDisconnected among them.
                return True
    except (OSError, http.client.HTTPException, ValueError):
        return False
    return False


def finding(port: int) -> str:
    """Return the warning for the operator."""
    return (
        "TLS works, but no request is answered: set balancer.networks to the addresses that the "
        "balancer connects from, and its PROXY protocol as `certsync rules` says for port "
        f"{port}"
    )

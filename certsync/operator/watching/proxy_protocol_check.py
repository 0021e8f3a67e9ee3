"""Is a request cut off where the handshake before it came through?"""

from __future__ import annotations

import http.client
import ssl

from certsync.system import http_get
from certsync.system.deadline import Deadline
from certsync.system.unverified import opened

SECONDS = 5.0


def drops_requests(address: str, port: int, name: str, path: str, seconds: float = SECONDS) -> bool:
    """Return whether a TLS connection ends without one byte of an answer to a request for a path.

    So nginx treats who says who the client is and is no balancer that it knows. A handshake that
    fails, silence and any answer are not that.
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
        "TLS comes through, and no request is answered: write the addresses that the balancer's "
        "connections come from as balancer.networks, and set its PROXY protocol as `certsync "
        f"rules` says for port {port}"
    )

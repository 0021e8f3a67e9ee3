"""Have what is sent to a host leave at once."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_NODELAY

from pyinfra.api import Host


def without_delay(host: Host) -> None:
    """Send a host's commands without waiting for the answer to what was sent before.

    paramiko leaves Nagle's algorithm on (RFC 9293, section 3.7.4), and a host that delays its
    acknowledgements then makes each command wait 40 ms: two thirds of what one takes.
    """
    client = getattr(host.connector, "client", None)
    socket = getattr(client.get_transport(), "sock", None) if client else None
    # Through another host there is none of our own.
    if socket is not None and hasattr(socket, "setsockopt"):
        socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)

"""pyinfra's SSH connections without Nagle's algorithm, from their first packet."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from paramiko import Transport


class Transports:
    """Makes paramiko transports whose sockets send without delay.

    paramiko leaves Nagle's algorithm on (RFC 9293, section 3.7.4). The second of two small packets
    then waits until the first is acknowledged: several round trips per handshake, and 40 ms per
    command on a host that delays its acknowledgements.
    """

    def __call__(self, sock: Any, **options: Any) -> Transport:
        """Return the transport; ``options`` are paramiko's own."""
        # Through a jump host there is no socket of our own.
        if hasattr(sock, "setsockopt"):
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return Transport(sock, **options)

    def to_json(self) -> str:
        """Return its representation in pyinfra's host data."""
        return "without Nagle's algorithm"


transport = Transports()

"""pyinfra's SSH connections without Nagle's algorithm, from their first packet."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from paramiko import Transport


class Transports:
    """What makes a transport of paramiko's over a socket that sends at once what it is given.

    paramiko leaves Nagle's algorithm on (RFC 9293, section 3.7.4). The second of two small packets
    then waits until the first is acknowledged: a way there and back several times in a handshake,
    and 40 ms at each command to a host that delays its acknowledgements.
    """

    def __call__(self, sock: Any, **options: Any) -> Transport:
        """Return the transport; ``options`` are paramiko's own."""
        # Through another host there is no socket of our own.
        if hasattr(sock, "setsockopt"):
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return Transport(sock, **options)

    def to_json(self) -> str:
        """Return what pyinfra shows of it among a host's data."""
        return "without Nagle's algorithm"


transport = Transports()

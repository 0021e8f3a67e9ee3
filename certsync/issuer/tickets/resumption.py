"""Check whether backends resume each other's TLS sessions: offer one's ticket to another.

Standard library only, so that the hourly run stays cheap. Certificates are not verified here, that
is `probe`'s job, and no data is sent after the handshake.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Sequence

from certsync.system import parallel

SECONDS = 5.0
"""How long one handshake may take."""


def not_resuming(
    source: str, others: Sequence[str], port: int, server_name: str, seconds: float = SECONDS
) -> list[str] | None:
    """Return the addresses among ``others`` that do not accept a ticket of ``source``.

    Hosts that do not answer are left out. None: the source issues no ticket, so nothing is known.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    ticket = _ticket(context, source, port, server_name, seconds)
    if ticket is None:
        return None

    def does_not_resume(address: str) -> bool:
        try:
            with (
                socket.create_connection((address, port), timeout=seconds) as plain,
                context.wrap_socket(plain, server_hostname=server_name, session=ticket) as tls,
            ):
                return not tls.session_reused
        except OSError:
            return False

    found = parallel.each(does_not_resume, others)
    return [address for address, refused in zip(others, found, strict=True) if refused]


def _ticket(
    context: ssl.SSLContext, address: str, port: int, server_name: str, seconds: float
) -> ssl.SSLSession | None:
    """Return a session with a ticket; None: no answer or no ticket."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((address, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as tls,
    ):
        session = tls.session
        if session is not None and session.has_ticket:
            return session
        # With TLS 1.3 it follows the handshake, and is read like data. No request is needed.
        tls.setblocking(False)
        if tls.version() == "TLSv1.3" and select.select([tls], [], [], seconds)[0]:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.recv(1)
        session = tls.session
        return session if session is not None and session.has_ticket else None
    return None

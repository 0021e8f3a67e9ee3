"""Find out which certificate a backend serves: a TLS handshake with its own address.

Standard library only, so that the hourly run stays cheap. `proof` judges the result.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from datetime import datetime, timezone
from typing import Any

from certsync.model.proof import Served, Unreachable

SECONDS = 5.0
"""How long one handshake may take."""

HAS_EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, see verify(1)."""

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""


def probe(
    address: str, port: int, server_name: str, roots: str, seconds: float = SECONDS
) -> Served | Unreachable:
    """Return what is served at an address for a server name, verified against ``roots``.

    ``roots`` is a PEM file; empty: Python's default on this machine.

    If verification fails, the handshake is repeated without it, to see what is served.

    Raises:
        OSError: the file ``roots`` cannot be read.
    """
    strict = ssl.create_default_context(cafile=roots or None)
    # Python 3.13 rejects roots that lack extensions required by RFC 5280; browsers do not.
    strict.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        chain, leaf = _handshake(strict, address, port, server_name, seconds)
        return Served(chain, "", _moment(leaf["notBefore"]), _moment(leaf["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        refusal = error.verify_message or "it is not trusted"
        has_expired = error.verify_code == HAS_EXPIRED
    except (OSError, ssl.SSLError) as error:
        return Unreachable(_why(error), no_route=error.errno == errno.ENETUNREACH)
    if has_expired:
        strict.verify_flags |= NO_CHECK_TIME
        with contextlib.suppress(OSError):
            chain, leaf = _handshake(strict, address, port, server_name, seconds)
            return Served(chain, refusal, None, _moment(leaf["notAfter"]))
    loose = ssl.create_default_context()
    loose.check_hostname = False
    loose.verify_mode = ssl.CERT_NONE
    try:
        return Served(_handshake(loose, address, port, server_name, seconds)[0], refusal)
    except (OSError, ssl.SSLError) as error:
        return Unreachable(_why(error))


def _handshake(
    context: ssl.SSLContext, address: str, port: int, server_name: str, seconds: float
) -> tuple[tuple[bytes, ...], dict[str, Any]]:
    """Return the chain, and the leaf as parsed by `ssl`, which only parses verified ones."""
    with (
        socket.create_connection((address, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as tls,
    ):
        return _chain(tls), dict(tls.getpeercert() or {})


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)


def _chain(tls: ssl.SSLSocket) -> tuple[bytes, ...]:
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return tuple(public())
    # Private in Python 3.10 to 3.12; 3.13 made it public.
    inner = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in inner)


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake ({error.reason or error})"
    return error.strerror or str(error)

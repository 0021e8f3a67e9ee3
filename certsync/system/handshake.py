"""Find out which certificate a backend serves: a TLS handshake with its own address.

Standard library only, so that the hourly run stays cheap. `proof` judges the result.

A run may go by the CA's clock instead of this machine's; OpenSSL knows only the latter. Then it
verifies everything but dates, and they are compared here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from certsync.model.proof import Served, Unreachable

SECONDS = 5.0
"""How long one handshake may take."""

OF_DATES = (9, 10)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED, see verify(1)."""

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""

SAME_TIME = timedelta(hours=1)
"""How far a time may be from this machine's clock for OpenSSL to judge by that clock. A run goes by
another one only if this one is farther off; and it goes by the time at which it began."""


def probe(
    address: str,
    port: int,
    server_name: str,
    roots: str,
    at: datetime,
    seconds: float = SECONDS,
) -> Served | Unreachable:
    """Return what is served at an address for a server name, verified against ``roots``.

    ``roots`` is a PEM file; empty: Python's default on this machine. ``at`` is the time to judge
    by.

    If verification fails, the handshake is repeated without it, to see what is served.

    Raises:
        OSError: the file ``roots`` cannot be read.
    """
    strict = ssl.create_default_context(cafile=roots or None)
    # Python 3.13 rejects roots that lack extensions required by RFC 5280; browsers do not.
    strict.verify_flags &= ~ssl.VERIFY_X509_STRICT
    by_clock = abs(at - datetime.now(timezone.utc)) <= SAME_TIME
    if not by_clock:
        strict.verify_flags |= NO_CHECK_TIME

    def look(context: ssl.SSLContext) -> _Seen:
        return _handshake(context, address, port, server_name, seconds)

    try:
        seen = look(strict)
        refusal = "" if by_clock else _wrong_date(seen.verified, at)
        return Served(seen.chain, refusal, *_validity(seen.verified[0]))
    except ssl.SSLCertVerificationError as error:
        refusal, code = error.verify_message or "it is not trusted", error.verify_code
    except (OSError, ssl.SSLError) as error:
        return Unreachable(_why(error), no_route=error.errno == errno.ENETUNREACH)
    return _refused(look, strict, refusal, code)


def _refused(
    look: Callable[[ssl.SSLContext], _Seen], strict: ssl.SSLContext, refusal: str, code: int
) -> Served | Unreachable:
    """Return what clients reject; its dates, too, if these are the only reason."""
    if code in OF_DATES:
        strict.verify_flags |= NO_CHECK_TIME
        with contextlib.suppress(OSError):
            seen = look(strict)
            return Served(seen.chain, refusal, *_validity(seen.verified[0]))
    loose = ssl.create_default_context()
    loose.check_hostname = False
    loose.verify_mode = ssl.CERT_NONE
    try:
        return Served(look(loose).chain, refusal)
    except (OSError, ssl.SSLError) as error:
        return Unreachable(_why(error))


@dataclass(frozen=True)
class _Seen:
    chain: tuple[bytes, ...]
    """As sent, DER, leaf first."""

    verified: Sequence[Mapping[str, Any]]
    """The certificates up to the root, leaf first, as `ssl` parses them; empty: not verified."""


def _handshake(
    context: ssl.SSLContext, address: str, port: int, server_name: str, seconds: float
) -> _Seen:
    with (
        socket.create_connection((address, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as tls,
    ):
        # What `ssl` makes public, from 3.13 on, are the bytes alone; dates are needed, too.
        inner = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
        sent = inner.get_unverified_chain() or ()
        chain = tuple(ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in sent)
        if context.verify_mode is ssl.CERT_NONE:
            return _Seen(chain, ())
        return _Seen(chain, [each.get_info() for each in inner.get_verified_chain()])


def _validity(certificate: Mapping[str, Any]) -> tuple[datetime, datetime]:
    return _moment(certificate["notBefore"]), _moment(certificate["notAfter"])


def _wrong_date(certificates: Iterable[Mapping[str, Any]], at: datetime) -> str:
    """Return which date is wrong, in OpenSSL's words; empty: none is."""
    for begin, end in map(_validity, certificates):
        if at + SAME_TIME < begin:
            return "certificate is not yet valid"
        if at > end:
            return "certificate has expired"
    return ""


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake ({error.reason or error})"
    return error.strerror or str(error)

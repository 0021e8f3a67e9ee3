"""Is what the CA has sent a certificate to go live with? Looked at before it is kept."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certsync.issuer.ca.issuance.pending import Pending
from certsync.model import certificate
from certsync.model.certificate import Certificate
from certsync.model.errors import OrderFailedError, StoreError
from certsync.programs import receiver
from certsync.system.files import write_whole

Tell = Callable[[str], None]

CLOCKS = timedelta(hours=1)
"""How far our clock may be from the CA's, as `clock` allows it."""

NOT_YET_VALID = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, see verify(1)."""


@dataclass(frozen=True)
class Acceptance:
    """What an answer of the CA's is measured by."""

    names: Sequence[str]
    """The names that were ordered; the first is what clients ask for."""

    pending: Pending
    """The order, with its private key."""

    roots: str
    """The PEM file with the roots that a chain has to lead to; empty: to any."""

    insisting: bool
    """Whether a chain that leads to no root is better than none: the live one soon expires."""

    def chosen(
        self, fullchain: str, others: Iterable[str], now: datetime, tell: Tell
    ) -> Certificate:
        """Return the certificate in a full chain, PEM, if it may go live.

        ``others`` are the chains that the CA offers besides (RFC 8555 section 7.4.2): the first
        one that leads to the roots is taken where this one does not.

        Raises:
            OrderFailedError: it is not what was ordered, or nginx or clients would not take it.
            StoreError: the roots cannot be read.
        """
        issued = self._read(fullchain, now)
        if more := sorted(set(issued.names) - set(self.names)):
            tell(f"warning: the CA has added {', '.join(more)} to the certificate")
        why = self._untrusted(fullchain)
        if not why:
            return issued
        for other in others:
            if not self._untrusted(other):
                tell("another chain of the CA's is taken, because it leads to the fleet's roots")
                return self._read(other, now)
        told = f"the CA's chain does not lead to the roots that clients should trust: {why}"
        if not self.insisting:
            raise OrderFailedError(told, "is ca.roots in the fleet file right for this CA?")
        tell(f"warning: {told}; it is taken, because the live certificate soon expires")
        return issued

    def _read(self, fullchain: str, now: datetime) -> Certificate:
        try:
            issued = certificate.parse_chain(fullchain)
        except StoreError as error:
            raise OrderFailedError(f"the CA sent no usable certificate: {error.message}") from None
        if not certificate.belongs(self.pending.private_key(), issued):
            raise OrderFailedError("the CA sent a certificate for a different key")
        if why := unfit(issued, self.names, now):
            raise OrderFailedError(f"the CA sent a certificate {why}")
        return issued

    def _untrusted(self, fullchain: str) -> str:
        if not self.roots:
            return ""
        path = self.pending.folder / "fullchain.pem"
        write_whole(path, fullchain.encode(), mode=0o600)
        try:
            return untrusted(path, self.pending.key, self.roots, self.names[0])
        finally:
            path.unlink(missing_ok=True)


def unfit(issued: Certificate, names: Sequence[str], now: datetime) -> str:
    """Return what is wrong with a certificate that was ordered for ``names``; empty: nothing."""
    if missing := sorted(set(names) - set(issued.names)):
        return f"for {', '.join(issued.names) or 'no name'}, without {', '.join(missing)}"
    if now >= issued.not_after:
        return f"that expired on {issued.not_after:%Y-%m-%d %H:%M} UTC; is the clock right?"
    if issued.not_before - now > CLOCKS:
        return f"that is not valid before {issued.not_before:%Y-%m-%d %H:%M} UTC"
    if issued.must_staple:
        return "that wants a stapled OCSP answer (RFC 7633), which nginx does not give here"
    return ""


def client_context(roots: str) -> ssl.SSLContext:
    """Return a TLS client that trusts the roots in a PEM file.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        client = ssl.create_default_context(cafile=roots)
    except OSError as error:
        raise StoreError(
            f"{roots}: {error.strerror or error}", "is ca.roots in the fleet file right?"
        ) from None
    # As in `probe`: Python 3.13 refuses roots without extensions that RFC 5280 asks for.
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return client


def untrusted(chain: Path, key: Path, roots: str, name: str) -> str:
    """Return why a client that trusts ``roots`` would refuse a chain for ``name``; empty: none.

    All are PEM files. It is a whole TLS handshake in memory: the proof and the balancers judge by
    one, too.

    Raises:
        StoreError: the roots cannot be read.
    """
    client = client_context(roots)
    try:
        _handshake(client, chain, key, name)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code != NOT_YET_VALID:
            return error.verify_message or "it is not trusted"
    except ssl.SSLError as error:
        return str(error.reason or error)
    else:
        return ""
    # Our clock may be behind the CA's. By how much, `unfit` has looked at.
    client.verify_flags |= receiver.X509_NO_CHECK_TIME
    try:
        _handshake(client, chain, key, name)
    except ssl.SSLError as error:
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return ""


def _handshake(client: ssl.SSLContext, chain: Path, key: Path, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key, password="")
    receiver.handshake(server, client, name)

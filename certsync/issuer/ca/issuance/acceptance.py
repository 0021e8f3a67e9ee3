"""Check the certificate that the CA sent, before it is kept."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from certsync.issuer.ca.issuance.pending import Pending
from certsync.model import certificate
from certsync.model.certificate import Certificate
from certsync.model.errors import StoreError, UnusableError
from certsync.programs import receiver
from certsync.system.files import write_whole
from certsync.system.handshake import NO_CHECK_TIME, OF_DATES

Tell = Callable[[str], None]

CLOCKS = timedelta(hours=1)
"""How far our clock may be from the CA's, as in `clock`."""


@dataclass(frozen=True)
class Acceptance:
    """The criteria for the CA's answer."""

    names: Sequence[str]
    """The names that were ordered; the first is used as the server name."""

    pending: Pending
    """The order, with its private key."""

    roots: str
    """The PEM file with the roots that a chain must lead to; empty: any root."""

    insisting: bool
    """Whether to accept a chain that leads to none of them, because the live one expires soon."""

    def chosen(
        self, fullchain: str, others: Iterable[str], now: datetime, tell: Tell
    ) -> Certificate:
        """Return the certificate in a full chain, PEM, if it may go live.

        ``others`` are the CA's alternative chains (RFC 8555 section 7.4.2): if this one does not
        lead to the roots, the first one that does is used.

        Raises:
            UnusableError: it is not what was ordered, or nginx or clients would reject it.
            StoreError: the roots cannot be read.
        """
        issued = self._read(fullchain, now)
        if more := sorted(set(issued.names) - set(self.names)):
            tell(f"warning: the CA added {', '.join(more)} to the certificate")
        why = self._untrusted(fullchain)
        if not why:
            return issued
        for other in others:
            if not self._untrusted(other):
                tell("using the CA's alternative chain, because it leads to the fleet's roots")
                return self._read(other, now)
        text = f"the CA's chain does not lead to the roots that clients should trust: {why}"
        if not self.insisting:
            raise UnusableError(text, "is ca.roots in the fleet file right for this CA?")
        tell(f"warning: {text}; using it anyway, because the live certificate expires soon")
        return issued

    def _read(self, fullchain: str, now: datetime) -> Certificate:
        try:
            issued = certificate.parse_chain(fullchain)
        except StoreError as error:
            raise UnusableError(f"the CA's certificate is unusable: {error.message}") from None
        if not certificate.belongs(self.pending.private_key(), issued):
            raise UnusableError("the CA sent a certificate for a different key")
        if why := unfit(issued, self.names, now):
            raise UnusableError(f"the CA sent a certificate {why}")
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
    """Return what is wrong with a certificate ordered for ``names``; empty: nothing."""
    if missing := sorted(set(names) - set(issued.names)):
        return f"for {', '.join(issued.names) or 'no name'}, without {', '.join(missing)}"
    if now >= issued.not_after:
        return f"that expired on {issued.not_after:%Y-%m-%d %H:%M} UTC; is the clock right?"
    if issued.not_before - now > CLOCKS:
        return f"that is not valid before {issued.not_before:%Y-%m-%d %H:%M} UTC"
    if issued.must_staple:
        return "that requires OCSP stapling (RFC 7633), which nginx does not do here"
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
    # As in `probe`: Python 3.13 rejects roots that lack extensions required by RFC 5280.
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return client


def untrusted(chain: Path, key: Path, roots: str, name: str) -> str:
    """Return why a client that trusts ``roots`` would reject a chain for ``name``; empty: it won't.

    All are PEM files. It is a full TLS handshake in memory, as in the proof and the balancers'
    health checks.

    Raises:
        StoreError: the roots cannot be read.
    """
    client = client_context(roots)
    try:
        _handshake(client, chain, key, name)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code not in OF_DATES:
            return error.verify_message or "it is not trusted"
    except ssl.SSLError as error:
        return str(error.reason or error)
    else:
        return ""
    # Our clock may be off the CA's; `unfit` has checked the dates, and by which time.
    client.verify_flags |= NO_CHECK_TIME
    try:
        _handshake(client, chain, key, name)
    except ssl.SSLError as error:
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return ""


def _handshake(client: ssl.SSLContext, chain: Path, key: Path, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key, password="")
    receiver.handshake(server, client, name)

"""Check whether a certificate is revoked: the CA's revocation list and its renewal information."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certsync.issuer.ca import ari
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.issuer.schedule import is_wanted_at_once
from certsync.issuer.situation import Situation
from certsync.model.errors import CaSilentError
from certsync.model.generation import Manifest

SECONDS = 30
REDIRECTS = 5
LARGEST = 32 * 1024 * 1024
"""Bytes of a revocation list. Let's Encrypt's are far smaller; this only limits what is read."""


@dataclass(frozen=True)
class Finding:
    """What is known about one certificate."""

    revoked: str = ""
    """How it is known to be revoked; empty: it is not known to be."""

    unknown: str = ""
    """Why that cannot be determined; empty: it was."""


def look(seen: Situation, number: int, now: datetime) -> Finding:
    """Return whether a generation's certificate was revoked, as far as can be determined."""
    generation = seen.kept[number].manifest
    listed = by_list(seen.kept[number].fullchain, now)
    if listed.revoked:
        return listed
    try:
        info, _answer = ari.ask(seen.fleet.authority.directory, seen.bundle, generation, now)
    except CaSilentError:
        return listed
    if why := wants_it_replaced(generation, info, now):
        return Finding(revoked=f"{why}: it was revoked, or will be")
    return listed


def wants_it_replaced(generation: Manifest, info: RenewalInfo, now: datetime) -> str:
    """Return a text if the CA wants a certificate replaced long before it is due; else nothing."""
    if not is_wanted_at_once(generation, info, now):
        return ""
    why = f" (explanation: {info.explanation})" if info.explanation else ""
    return f"the CA wants it replaced at once{why}"


def by_list(fullchain: bytes, now: datetime) -> Finding:
    """Look up a full chain's leaf, PEM, in the CA's revocation list (RFC 5280)."""
    from http.client import HTTPException

    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        leaf, *chain = x509.load_pem_x509_certificates(fullchain)
        urls = list_addresses(leaf)
    except (ValueError, TypeError) as error:
        # An earlier version may have kept a certificate that cannot be parsed.
        return Finding(unknown=f"the certificate cannot be parsed: {error}")
    if not urls:
        return Finding(unknown="the certificate names no revocation list")
    if not chain:
        return Finding(unknown="the chain has no certificate to verify a revocation list with")
    try:
        return read_list(_get(urls[0]), leaf, chain[0], now)
    except (OSError, ValueError, TypeError, HTTPException, UnsupportedAlgorithm) as error:
        # Fetched over plain HTTP: the answer may be anything.
        return Finding(unknown=f"{urls[0]}: {error}")


def list_addresses(leaf: object) -> list[str]:
    """Return the addresses of a certificate's revocation lists (RFC 5280 section 4.2.1.13)."""
    from cryptography import x509

    assert isinstance(leaf, x509.Certificate)
    try:
        points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return []
    names = [name for point in points for name in point.full_name or ()]
    found = [str(each.value) for each in names if isinstance(each, x509.UniformResourceIdentifier)]
    return [each for each in found if each.startswith(("http://", "https://"))]


def read_list(der: bytes, leaf: object, issuer: object, now: datetime) -> Finding:
    """Look up a leaf in a revocation list signed by ``issuer``.

    Raises:
        ValueError: it is not a revocation list.
    """
    from cryptography import x509

    assert isinstance(leaf, x509.Certificate)
    assert isinstance(issuer, x509.Certificate)
    found = x509.load_der_x509_crl(der)
    key = issuer.public_key()
    if not found.is_signature_valid(key):  # type: ignore[arg-type]  # a CA's key signs
        return Finding(unknown="the revocation list is not signed by the certificate's CA")
    entry = found.get_revoked_certificate_by_serial_number(leaf.serial_number)
    if entry is not None:
        return Finding(revoked=f"it was revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC")
    if found.next_update_utc is not None and found.next_update_utc < now:
        return Finding(unknown="the revocation list is out of date")
    return Finding()


def _get(url: str) -> bytes:
    from certsync.system import http_get

    # Lists are signed, and served over plain HTTP (RFC 5280 section 8).
    answer = http_get.get(url, http_get.Limits(SECONDS, LARGEST, REDIRECTS))
    if answer.status != 200:
        raise OSError(f"HTTP {answer.status}")
    return answer.body

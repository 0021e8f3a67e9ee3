"""Certificates, chains and private keys as values: parsed, compared, created; never stored."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from certsync.model.errors import StoreError
from certsync.model.options import KeyType

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

UNREADABLE = (
    ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.DuplicateExtension,
    x509.InvalidVersion, x509.UnsupportedGeneralNameType,
)  # fmt: skip
"""What cryptography raises for a certificate or extension that it cannot read."""

COMMON_NAME_LIMIT = 64
"""RFC 5280's upper bound (ub-common-name), counted in characters."""


@dataclass(frozen=True)
class Certificate:
    """A leaf and the chain it came with."""

    leaf_pem: str
    chain_pem: str
    """The intermediates, without the root, in the order the CA sent them."""

    chain_der: tuple[bytes, ...]
    """Leaf first, then the intermediates, as sent in a handshake."""

    names: tuple[str, ...]
    """The DNS names it is valid for, sorted."""

    not_before: datetime
    not_after: datetime
    key_type: KeyType | None
    """The type of its key; None: one that certsync does not support."""

    public_key: bytes
    """SubjectPublicKeyInfo, DER."""

    renewal_id: str = ""
    """Its identifier for renewal information; empty: it has no authority key identifier."""

    must_staple: bool = False
    """Whether clients refuse it without a stapled OCSP answer (RFC 7633)."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf's DER, in hex: what identifies a certificate."""
        return fingerprint(self.chain_der[0])


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate's DER, in hex."""
    return hashlib.sha256(der).hexdigest()


def parse_chain(fullchain_pem: str) -> Certificate:
    """Parse a PEM full chain, leaf first.

    Raises:
        StoreError: it is not PEM, has no certificate, or one cannot be read.
    """
    try:
        return _parsed(x509.load_pem_x509_certificates(fullchain_pem.encode()))
    except UNREADABLE as error:
        raise StoreError(f"not a certificate chain: {error}") from None


def _parsed(certificates: list[x509.Certificate]) -> Certificate:
    leaf = certificates[0]
    pems = [each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates]
    return Certificate(
        leaf_pem=pems[0],
        chain_pem="".join(pems[1:]),
        chain_der=tuple(each.public_bytes(serialization.Encoding.DER) for each in certificates),
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        key_type=_key_type(leaf.public_key()),
        public_key=_public_bytes(leaf.public_key()),
        renewal_id=_renewal_id(leaf),
        must_staple=_must_staple(leaf),
    )


def make_key(key_type: KeyType) -> PrivateKey:
    """Return a new private key."""
    if key_type is KeyType.ECDSA_P256:
        return ec.generate_private_key(ec.SECP256R1())
    if key_type is KeyType.ECDSA_P384:
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(key_type.value[4:]))


def key_pem(key: PrivateKey) -> bytes:
    """Return a private key as unencrypted PEM (PKCS #8)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes) -> PrivateKey:
    """Parse a PEM private key.

    Raises:
        StoreError: it is not a private key, or of a type certsync does not support.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except ValueError as error:
        raise StoreError(f"not a private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise StoreError("the private key is neither ECDSA nor RSA")
    return key


def make_csr(key: PrivateKey, names: tuple[str, ...]) -> bytes:
    """Return a PEM signing request for the names; the first becomes the common name if it fits."""
    subject = []
    if len(names[0]) <= COMMON_NAME_LIMIT:
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])]
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(alternatives, critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def belongs(key: PrivateKey, certificate: Certificate) -> bool:
    """Return whether the private key belongs to the certificate."""
    return _public_bytes(key.public_key()) == certificate.public_key


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]  # a union of a dozen key classes; all have it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _renewal_id(leaf: x509.Certificate) -> str:
    """Return authority key identifier and serial in the form of RFC 9773 section 4.1."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    # DER integers are signed: a leading zero byte if the first bit is set.
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    return f"{_base64url(extension.value.key_identifier or b'')}.{_base64url(serial)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(sorted(extension.value.get_values_for_type(x509.DNSName)))


def _must_staple(leaf: x509.Certificate) -> bool:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.TLSFeature)
    except x509.ExtensionNotFound:
        return False
    return x509.TLSFeatureType.status_request in extension.value


def _key_type(key: object) -> KeyType | None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves = {"secp256r1": KeyType.ECDSA_P256, "secp384r1": KeyType.ECDSA_P384}
        return curves.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        kinds = {2048: KeyType.RSA_2048, 3072: KeyType.RSA_3072, 4096: KeyType.RSA_4096}
        return kinds.get(key.key_size)
    return None

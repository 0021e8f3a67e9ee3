"""Certificates of a simulated CA: real keys and signatures, any dates, well-signed nonsense."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID, ObjectIdentifier

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
LONG_AFTER = datetime(2060, 1, 1, tzinfo=timezone.utc)


class Nonsense(str, Enum):
    """What a CA signs that no client should be shown."""

    OTHER_ROOT = "a chain to another root"
    LEAF_ALONE = "the leaf without its chain"
    WRONG_ISSUER = "an intermediate that did not sign the leaf"
    NEXT_YEAR = "not valid before next year"
    FEWER_NAMES = "a name is missing"
    MUST_STAPLE = "must-staple"
    CRITICAL = "an unknown critical extension"
    BAD_NAMES = "subject alternative names that cannot be read"
    NO_PEM = "no PEM at all"


def name(common: str) -> x509.Name:
    """Return a distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Signer:
    """A root with an intermediate below it."""

    def __init__(self, common: str) -> None:
        # The same in every process, and Ed25519 signs the same twice: a seed repeats exactly.
        self.root_key = Ed25519PrivateKey.from_private_bytes(
            f"{common} root"[:32].ljust(32).encode()
        )
        self.key = Ed25519PrivateKey.from_private_bytes(common[:32].ljust(32).encode())
        self.serial = 0
        self.root = self._authority(f"{common} root", self.root_key, None)
        self.intermediate = self._authority(common, self.key, self.root)
        self.root_pem = self.root.public_bytes(serialization.Encoding.PEM).decode()
        self.chain_pem = self.intermediate.public_bytes(serialization.Encoding.PEM).decode()

    def _authority(
        self, common: str, key: Ed25519PrivateKey, parent: x509.Certificate | None
    ) -> x509.Certificate:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(parent.subject if parent else name(common))
            .public_key(key.public_key())
            .serial_number(1 if parent is None else 2)
            .not_valid_before(LONG_AGO)
            .not_valid_after(LONG_AFTER)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.root_key if parent else key, None)
        )

    def sign(
        self, csr: x509.CertificateSigningRequest, names: list[str], begin: datetime, end: datetime,
        extension: tuple[x509.ExtensionType, bool] | None = None,
    ) -> str:  # fmt: skip
        """Return a leaf, PEM."""
        self.serial += 1
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(names[0]))
            .issuer_name(self.intermediate.subject)
            .public_key(csr.public_key())
            .serial_number(self.serial + 2)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(by, critical=False)
        )
        if (
            extension is None
            or not isinstance(extension[0], x509.UnrecognizedExtension)
            or (extension[0].oid != x509.SubjectAlternativeName.oid)
        ):
            builder = builder.add_extension(alternatives, critical=False)
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])
        leaf = builder.sign(self.key, None)
        return leaf.public_bytes(serialization.Encoding.PEM).decode()


def full_chain(
    good: Signer, other: Signer, csr_pem: bytes, names: list[str], begin: datetime,
    lifetime: timedelta, nonsense: Nonsense | None,
) -> str:  # fmt: skip
    """Return what a CA sends for an order, PEM: a certificate, or something else."""
    csr = x509.load_pem_x509_csr(csr_pem)
    end = begin + lifetime
    if nonsense is Nonsense.NO_PEM:
        return "the certificate is on its way\x1b[2J"
    if nonsense is Nonsense.OTHER_ROOT:
        return other.sign(csr, names, begin, end) + other.chain_pem
    if nonsense is Nonsense.NEXT_YEAR:
        begin, end = begin + timedelta(days=365), end + timedelta(days=365)
    if nonsense is Nonsense.FEWER_NAMES:
        names = names[1:] or ["other.example"]
    extension: tuple[x509.ExtensionType, bool] | None = None
    if nonsense is Nonsense.MUST_STAPLE:
        extension = (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
    if nonsense is Nonsense.CRITICAL:
        oid = ObjectIdentifier("1.3.6.1.4.1.55738.1")
        extension = (x509.UnrecognizedExtension(oid, b"\x05\x00"), True)
    if nonsense is Nonsense.BAD_NAMES:
        oid = x509.SubjectAlternativeName.oid
        extension = (x509.UnrecognizedExtension(oid, b"\x30\x03\x82\x01\xff"), False)
    leaf = good.sign(csr, names, begin, end, extension)
    if nonsense is Nonsense.LEAF_ALONE:
        return leaf
    return leaf + (other.chain_pem if nonsense is Nonsense.WRONG_ISSUER else good.chain_pem)

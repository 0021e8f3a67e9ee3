"""A CA of a test's own: roots, intermediates and leaves, as good or as bad as a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Signer:
    """A certificate that may sign others, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def signer(
    name: str,
    above: Signer | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    *,
    begin: timedelta = timedelta(0),
    days: int = 90,
) -> Signer:
    """Return a root, or an intermediate below another one; it has a new key if none is given."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = above.certificate.subject if above else None
    builder = _builder(name, subject, key.public_key(), begin, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Signer(builder.sign(above.key if above else key, hashes.SHA256()), key)


def leaf(  # whatever may be wrong with one
    below: Signer,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    *,
    begin: timedelta = timedelta(0),
    days: int = 90,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> str:
    """Return the PEM of a leaf; ``begin`` is from now to its not-before date."""
    builder = _builder(names[0], below.certificate.subject, key.public_key(), begin, days)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = builder.add_extension(alternatives, critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(below.key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    name: str,
    above: x509.Name | None,
    key: ec.EllipticCurvePublicKey,
    begin: timedelta = timedelta(0),
    days: int = 90,
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    first = datetime.now(timezone.utc) + begin
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(first + days * DAY)
    )

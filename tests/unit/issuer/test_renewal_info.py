"""What a CA says of renewals, and of what it has revoked, as it comes over the wire."""

from __future__ import annotations

import datetime as dt
from datetime import datetime, timedelta, timezone
from http.client import IncompleteRead
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certsync.issuer.ca import crl
from certsync.issuer.ca.ari import Answer, _get, renewal_info_of
from certsync.issuer.ca.crl import Finding, list_addresses, read_list
from certsync.model.certificate import parse_chain
from certsync.model.errors import CaSilentError
from tests.unit.fake_fleet import NOW

HOUR = timedelta(hours=1)
URL = "http://ca.example/1.crl"


def answer(data: dict[str, object]) -> Answer:
    return Answer(data, 6 * HOUR, None)


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-20T10:14:00Z",
        "2027-01-20T10:14:00+00:00",
        "2027-01-20T11:14:00.123456789+01:00",
        "2027-01-20T10:14:00.5Z",
    ],
)
def test_a_window_is_read_in_every_form_that_a_ca_may_write(text: str) -> None:
    window = {"start": text, "end": "2027-01-22T10:14:00Z"}
    found = renewal_info_of(answer({"suggestedWindow": window, "explanationURL": "x"}), "ff", NOW)
    assert found.window is not None
    assert found.window[0] == datetime(2027, 1, 20, 10, 14, tzinfo=timezone.utc)
    assert (found.fingerprint, found.explanation) == ("ff", "x")
    assert (found.asked, found.ask_again) == (NOW, NOW + 6 * HOUR)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"suggestedWindow": None},
        {"suggestedWindow": {"start": "soon", "end": "later"}},
        {"suggestedWindow": {"start": 5, "end": 6}},
        {"suggestedWindow": {"start": "2027-01-20T10:14:00", "end": "2027-01-22T10:14:00"}},
        {"suggestedWindow": {"start": "2027-01-20T10:14:00Z", "end": "9999-12-31T23:59:59-12:00"}},
    ],
)
def test_what_is_no_window_is_told_and_not_followed(data: dict[str, object]) -> None:
    with pytest.raises(CaSilentError) as caught:
        renewal_info_of(answer(data), "ff", NOW)
    assert caught.value.message == "the CA's renewal information has no suggested window"


def test_a_window_that_ends_before_it_begins_is_not_followed() -> None:
    window = {"start": "2027-01-22T10:14:00Z", "end": "2027-01-20T10:14:00Z"}
    with pytest.raises(CaSilentError, match=r"^the CA's suggested window ends before"):
        renewal_info_of(answer({"suggestedWindow": window}), "ff", NOW)


def test_an_explanation_cannot_move_a_terminals_cursor() -> None:
    window = {"start": "2027-01-20T10:14:00Z", "end": "2027-01-22T10:14:00Z"}
    found = renewal_info_of(
        answer({"suggestedWindow": window, "explanationURL": "a\x1b[2Jb"}), "f", NOW
    )
    assert found.explanation == "a?[2Jb"


@pytest.mark.parametrize("place", ["file:///", "http://ca.example/", "ftp://ca.example/"])
def test_only_https_is_asked_whatever_a_directory_names(tmp_path: Path, place: str) -> None:
    path = tmp_path / "info"
    path.write_text("{}")
    url = f"{place}{path}" if place == "file:///" else f"{place}info"
    with pytest.raises(CaSilentError) as caught:
        _get(url, "", NOW)
    assert caught.value.message == f"the CA's address for renewal information is not https: {url}"


# Certificates made here


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def certificate(serial: int, *extensions: x509.ExtensionType) -> x509.Certificate:
    """Return a certificate signed by ``KEY``, which is its own as well."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("leaf"))
        .issuer_name(name("CA"))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=timezone.utc))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=timezone.utc))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def revoked(*serials: int, key: ec.EllipticCurvePrivateKey = KEY, until: timedelta = HOUR) -> bytes:
    """Return a revocation list, DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name("CA"))
        .last_update(NOW - 7 * dt.timedelta(days=1))
        .next_update(NOW + until)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_the_renewal_identifier_is_that_of_rfc_9773() -> None:
    # The RFC's own example, section 4.1: key identifier 69:88:5B:…:E0, serial 00:87:65:43:21.
    identifier = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
    key = x509.AuthorityKeyIdentifier(identifier, None, None)
    pem = certificate(0x87654321, key).public_bytes(serialization.Encoding.PEM).decode()
    assert parse_chain(pem).renewal_id == "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"


def test_a_certificate_that_names_no_key_above_it_has_no_renewal_identifier() -> None:
    pem = certificate(1).public_bytes(serialization.Encoding.PEM).decode()
    assert parse_chain(pem).renewal_id == ""


def test_a_certificate_names_its_revocation_list() -> None:
    places = [x509.UniformResourceIdentifier("ldap://x"), x509.UniformResourceIdentifier(URL)]
    point = x509.DistributionPoint(places, None, None, None)
    assert list_addresses(certificate(1, x509.CRLDistributionPoints([point]))) == [URL]
    assert list_addresses(certificate(1)) == []


def test_a_revoked_certificate_is_found_on_its_list() -> None:
    leaf = certificate(7)
    assert read_list(revoked(5, 7), leaf, leaf, NOW) == Finding(
        revoked="it was revoked on 2026-11-21 12:00 UTC"
    )
    assert read_list(revoked(5), leaf, leaf, NOW) == Finding()


@pytest.mark.parametrize(
    "error", [OSError("gone"), IncompleteRead(b""), UnsupportedAlgorithm("odd"), TypeError("key")]
)
def test_a_list_that_cannot_be_had_or_read_is_told_and_ends_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_url: str) -> bytes:
        raise error

    place = x509.DistributionPoint([x509.UniformResourceIdentifier(URL)], None, None, None)
    pem = certificate(1, x509.CRLDistributionPoints([place])).public_bytes(
        serialization.Encoding.PEM
    )
    monkeypatch.setattr(crl, "_get", fails)
    assert crl.by_list(pem + pem, NOW).unknown.startswith(f"{URL}: ")


def test_a_list_of_somebody_else_or_of_last_year_says_nothing() -> None:
    leaf = certificate(7)
    assert read_list(revoked(7, key=OTHER), leaf, leaf, NOW) == Finding(
        unknown="the revocation list is not signed by the certificate's CA"
    )
    assert read_list(revoked(5, until=-HOUR), leaf, leaf, NOW) == Finding(
        unknown="the revocation list is out of date"
    )
    with pytest.raises(ValueError, match=r"."):
        read_list(b"no list", leaf, leaf, NOW)

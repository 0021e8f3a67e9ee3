"""What a CA sends is looked at before it is kept: names, dates, and the way to the roots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.ca.issuance.acceptance import Acceptance
from certsync.issuer.ca.issuance.pending import Pending
from certsync.model import certificate
from certsync.model.errors import OrderFailedError, StoreError
from tests.unit import authority
from tests.unit.authority import DAY
from tests.unit.fake_fleet import DIRECTORY, NAME, lineage

MUST_STAPLE = (x509.TLSFeature([x509.TLSFeatureType.status_request]), False)
UNKNOWN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
BROKEN = (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.35"), b"\xff"), False)
"""An authority key identifier that is none."""

ROOT = authority.signer("a root")
OTHER_ROOT = authority.signer("another root")
BETWEEN = authority.signer("an intermediate", ROOT)
OTHER_BETWEEN = authority.signer("an intermediate", OTHER_ROOT, BETWEEN.key)


class Order:
    """An order that is pending, what the CA sends for it, and what was told about that."""

    def __init__(self, folder: Path) -> None:
        self.pending = Pending(folder / "pending")
        self.pending.prepare(DIRECTORY, lineage())
        self.roots = folder / "roots.pem"
        self.roots.write_text(ROOT.pem)
        self.told: list[str] = []

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """Its private key."""
        return cast("ec.EllipticCurvePrivateKey", self.pending.private_key())

    def leaf(self, *names: str, **options: object) -> str:
        """Return a leaf for it."""
        return authority.leaf(BETWEEN, self.key, names or (NAME,), **options)  # type: ignore[arg-type]  # a test's shorthand

    def accepted(
        self,
        fullchain: str,
        others: Sequence[str] = (),
        *,
        insisting: bool = False,
        off: timedelta = timedelta(0),
    ) -> certificate.Certificate:
        """Return what is taken of it."""
        judge = Acceptance((NAME,), self.pending, str(self.roots), insisting)
        now = datetime.now(timezone.utc) + off
        return judge.chosen(fullchain, others, now, self.told.append)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """Return an order for the tutorial's name."""
    return Order(tmp_path)


def test_a_certificate_with_its_chain_is_taken(order: Order) -> None:
    fullchain = order.leaf() + BETWEEN.pem
    assert order.accepted(fullchain).names == (NAME,)
    assert order.told == []
    assert sorted(path.name for path in order.pending.folder.iterdir()) == [
        "csr.pem", "privkey.pem", "wanted.json"
    ]  # fmt: skip


def test_a_leaf_without_its_chain_is_not(order: Order) -> None:
    with pytest.raises(OrderFailedError, match="does not lead to the roots") as caught:
        order.accepted(order.leaf())
    assert caught.value.hint == "is ca.roots in the fleet file right for this CA?"


def test_of_several_chains_the_one_that_leads_to_the_roots_is_taken(order: Order) -> None:
    leaf = order.leaf()
    order.roots.write_text(OTHER_ROOT.pem)
    found = order.accepted(leaf + BETWEEN.pem, [leaf, leaf + OTHER_BETWEEN.pem])
    assert found.chain_pem == OTHER_BETWEEN.pem
    assert order.told == ["using the CA's alternative chain, because it leads to the fleet's roots"]
    with pytest.raises(OrderFailedError, match="does not lead to the roots"):
        order.accepted(leaf + BETWEEN.pem, [leaf])


def test_no_root_keeps_a_site_from_its_last_chance(order: Order) -> None:
    order.roots.write_text(OTHER_ROOT.pem)
    found = order.accepted(order.leaf() + BETWEEN.pem, insisting=True)
    assert found.chain_pem == BETWEEN.pem
    assert order.told[0].startswith("warning: the CA's chain does not lead to the roots")


def test_a_name_more_than_was_asked_for_is_told_and_taken(order: Order) -> None:
    found = order.accepted(order.leaf(NAME, f"www.{NAME}") + BETWEEN.pem)
    assert found.names == (NAME, f"www.{NAME}")
    assert order.told == [f"warning: the CA added www.{NAME} to the certificate"]


@pytest.mark.parametrize(
    ("names", "options", "why"),
    [
        pytest.param(
            ("other.example.com",), {}, f"for other.example.com, without {NAME}", id="a name less"
        ),
        pytest.param((NAME,), {"begin": -91 * DAY}, "that expired on ", id="it has expired"),
        pytest.param((NAME,), {"begin": 365 * DAY}, "that is not valid before ", id="in a year"),
        pytest.param((NAME,), {"extensions": [MUST_STAPLE]}, "OCSP stapling", id="staple"),
    ],
)
def test_what_nobody_could_serve_is_a_failed_order(
    order: Order, names: tuple[str, ...], options: dict[str, object], why: str
) -> None:
    for insisting in (False, True):
        with pytest.raises(OrderFailedError, match=why):
            order.accepted(order.leaf(*names, **options) + BETWEEN.pem, insisting=insisting)


@pytest.mark.parametrize("off", [-99 * DAY, 99 * DAY], ids=["our clock ahead", "and behind"])
def test_by_the_cas_time_a_certificate_is_good_that_is_over_or_not_yet_valid_by_ours(
    order: Order, off: timedelta
) -> None:
    fullchain = order.leaf(begin=off) + BETWEEN.pem
    assert order.accepted(fullchain, insisting=True, off=off).names == (NAME,)
    assert order.told == []
    with pytest.raises(OrderFailedError):
        order.accepted(fullchain, insisting=True)


def test_an_extension_that_clients_must_know_and_do_not_is_told(order: Order) -> None:
    with pytest.raises(OrderFailedError, match="critical extension"):
        order.accepted(order.leaf(extensions=[UNKNOWN]) + BETWEEN.pem)


def test_an_extension_that_cannot_be_read_is_told(order: Order) -> None:
    with pytest.raises(OrderFailedError, match="the CA's certificate is unusable: "):
        order.accepted(order.leaf(extensions=[BROKEN]) + BETWEEN.pem)


def test_a_clock_that_is_a_little_behind_the_cas_spoils_no_order(order: Order) -> None:
    order.accepted(order.leaf(begin=timedelta(minutes=50)) + BETWEEN.pem)
    with pytest.raises(OrderFailedError, match="is not valid before"):
        order.accepted(order.leaf(begin=timedelta(minutes=70)) + BETWEEN.pem)


def test_a_certificate_of_another_key_is_a_failed_order(order: Order) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(OrderFailedError, match="for a different key"):
        order.accepted(authority.leaf(BETWEEN, key, (NAME,)) + BETWEEN.pem)


def test_roots_that_cannot_be_read_are_told(order: Order) -> None:
    order.roots.unlink()
    with pytest.raises(StoreError, match=r"roots\.pem: No such file") as caught:
        order.accepted(order.leaf() + BETWEEN.pem)
    assert caught.value.hint == "is ca.roots in the fleet file right?"

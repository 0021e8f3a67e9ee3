"""From a fleet to a signed certificate, or to an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from certsync import certificate
from certsync.certificate import Certificate
from certsync.errors import CaError, ClockError
from certsync.fleet import SYSTEM_ROOTS, Fleet
from certsync.issuance.account import account_key, log_in
from certsync.issuance.network import Network
from certsync.issuance.order import Pending, finalize, is_over, place, validate
from certsync.store import Store, remove_folder

TOLERATED = timedelta(minutes=5)
"""How far our clock may be from the CA's before it is told."""

UNBEARABLE = timedelta(hours=1)
"""How far it may be before nothing is ordered: not-before dates lie an hour in the past."""


@dataclass(frozen=True)
class Issued:
    """A certificate as the CA sent it, with its key."""

    key: bytes
    """The private key, PEM."""

    certificate: Certificate
    account: str
    """The URL of the account that ordered it."""


def obtain(fleet: Fleet, store: Store, now: datetime, tell: Callable[[str], None]) -> Issued:
    """Order a certificate for all of the fleet's names, going on with an open order first.

    ``tell`` gets a line of narration for each step. The pending files stay until `forget` is
    called, after the certificate is safely kept.

    Raises:
        CaError: the CA refuses or cannot be reached.
        CaBusyError: it says when to come back.
        ClockError: this machine's clock is over an hour from the CA's.
    """
    folder = store.account(fleet.authority.directory)
    bundle = str(store.directory_bundle) if fleet.authority.directory_bundle else SYSTEM_ROOTS
    network = Network(account_key(folder), bundle)
    acme = log_in(network, fleet.authority, folder)
    if warning := clock_finding(network.ca_date, datetime.now(timezone.utc)):
        tell(warning)
    pending = Pending(store.pending(fleet.lineage))
    if pending.is_of(store.manifests(fleet.lineage).values()):
        # A run was cut off after it kept the certificate: its key is used already.
        forget(fleet, store)
    pending.prepare(fleet)
    tell(f"ordering a certificate for {', '.join(fleet.names)}")
    order = place(acme, pending)
    try:
        validate(acme, order, store.webroot)
        fullchain = finalize(acme, order)
    except CaError:
        # A failed validation ends its order (RFC 8555 section 7.1.6): the next run places another.
        if is_over(acme, order.uri):
            pending.forget_order()
        raise
    issued = certificate.parse_chain(fullchain)
    _check(issued, pending, fleet, now)
    account = network.account.uri if network.account else ""
    return Issued(pending.key.read_bytes(), issued, str(account))


def forget(fleet: Fleet, store: Store) -> None:
    """Remove what was kept of an order whose certificate is in the archive."""
    remove_folder(store.pending(fleet.lineage))


def clock_finding(ca_date: datetime | None, now: datetime) -> str:
    """Return what is wrong with our clock, by the CA's Date header; nothing if it is right.

    Raises:
        ClockError: it is over an hour off.
    """
    if ca_date is None:
        return ""
    off = now - ca_date
    if abs(off) <= TOLERATED:
        return ""
    side = "ahead of" if off > timedelta(0) else "behind"
    minutes = abs(off).total_seconds() / 60
    text = f"the issuer's clock is {minutes:.0f} minutes {side} the CA's"
    if abs(off) > UNBEARABLE:
        raise ClockError(text, "set the clock (timedatectl set-ntp true), then try again")
    return text


def _check(issued: Certificate, pending: Pending, fleet: Fleet, now: datetime) -> None:
    if not certificate.belongs(pending.private_key(), issued):
        raise CaError("the CA sent a certificate of another key")
    if issued.names != tuple(sorted(fleet.names)):
        raise CaError(f"the CA sent a certificate for {', '.join(issued.names)}")
    if now >= issued.not_after:
        raise CaError("the CA sent a certificate that has expired", "is the clock right?")

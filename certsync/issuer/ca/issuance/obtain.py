"""From a fleet to a signed certificate, or to an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from acme.messages import OrderResource

from certsync.issuer import steps
from certsync.issuer.backoff import KEY_PROBLEMS
from certsync.issuer.ca import registration
from certsync.issuer.ca.issuance.acceptance import Acceptance, client_context
from certsync.issuer.ca.issuance.account import account_key, log_in, open_directory
from certsync.issuer.ca.issuance.binding import read_binding
from certsync.issuer.ca.issuance.client import Client, check_profile
from certsync.issuer.ca.issuance.clock import clock_finding
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.issuance.order import alternatives, finalize, is_over, place, validate
from certsync.issuer.ca.issuance.pending import Pending
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.certificate import Certificate
from certsync.model.errors import CaError, CertsyncError, OrderFailedError, StoreError
from certsync.model.fleet import SYSTEM_ROOTS, Fleet
from certsync.model.generation import Manifest
from certsync.system.files import remove_folder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Issued:
    """A certificate as the CA sent it, with its key."""

    key: bytes
    """The private key, PEM."""

    certificate: Certificate
    account: str
    """The URL of the account that ordered it."""

    order: str
    """The order's URL."""


@dataclass(frozen=True)
class Request:
    """How an order is made."""

    before: Manifest | None = None
    """The generation that the new one follows."""

    replacing: bool = True
    """Whether the CA is told which certificate it replaces."""

    new_key: bool = False
    """Whether the key of ``before`` must not be used again, whatever the fleet file says."""

    anew: bool = False
    """Whether an order that an earlier run has left open is abandoned: it has failed often."""

    roots: str = ""
    """The PEM file with the roots that the chain has to lead to; empty: to any."""

    insisting: bool = False
    """Whether a chain that does not lead there is taken all the same: time is running out."""


def obtain(fleet: Fleet, store: Store, now: datetime, tell: Tell, request: Request) -> Issued:
    """Order a certificate for all of the fleet's names, going on with an open order first.

    ``tell`` gets a line of narration for each step. The pending files stay until `forget` is
    called, after the certificate is safely kept.

    Raises:
        CaError: the CA refuses or cannot be reached.
        OrderFailedError: an order was placed, and came to nothing.
        CaBusyError: it says when to come back.
        ClockError: this machine's clock is over an hour from the CA's.
        StoreError: what the issuer needs is not on its disk.
    """
    roots = _roots(request, tell)
    acme, account = steps.take(Step.LOG_IN, lambda: _log_in(fleet, store, tell))
    forget_if_kept(fleet, store)
    pending = Pending(store.pending(fleet.lineage))
    if request.anew:
        forget(fleet, store)
    pending.prepare(fleet, b"" if request.new_key else _kept_key(fleet, store, request.before))
    tell(f"ordering a certificate for {', '.join(fleet.names)}")
    replaces = replaced(request.before, fleet, account) if request.replacing else ""
    try:
        order = steps.take(Step.PLACE, lambda: place(acme, pending, fleet.profile, replaces, tell))
    except CaError as error:
        if error.problem == "accountDoesNotExist":
            registration.forget(store.account(fleet.authority.directory))
        raise
    signed = _signed(acme, order, pending, fleet, store)
    judge = Acceptance(fleet.names, pending, roots, request.insisting)
    try:
        others = alternatives(acme, signed, tell)
        issued = judge.chosen(str(signed.fullchain_pem), others, now, tell)
    except Exception as error:
        # Fetched again, it would be the same: another order is needed.
        forget(fleet, store)
        if isinstance(error, CertsyncError):
            raise
        raise OrderFailedError(f"the CA sent something that cannot be used: {error!r}") from error
    return Issued(pending.key.read_bytes(), issued, account, order.uri)


def _signed(
    acme: Client, order: OrderResource, pending: Pending, fleet: Fleet, store: Store
) -> OrderResource:
    """Return an order that is validated and signed; what cannot be finished any more is forgotten.

    Raises:
        CaError: the CA refuses.
        OrderFailedError: this order came to nothing.
    """
    try:
        steps.take(Step.VALIDATE, lambda: validate(acme, order, store.webroot))
        return steps.take(Step.SIGN, lambda: finalize(acme, order))
    except CaError as error:
        if error.problem in KEY_PROBLEMS:
            forget(fleet, store)
        # A failed validation ends its order (RFC 8555 section 7.1.6): another one is needed.
        if is_over(acme, order.uri):
            pending.forget_order()
            raise OrderFailedError(error.message, error.hint, error.problem) from None
        raise


def _roots(request: Request, tell: Tell) -> str:
    """Return the roots to measure a chain by; none where they cannot be read and time runs out.

    Raises:
        StoreError: they cannot be read.
    """
    if not request.roots:
        return ""
    try:
        client_context(request.roots)
    except StoreError as error:
        if not request.insisting:
            raise
        tell(f"warning: {error.message}; the chain is not looked at")
        return ""
    return request.roots


def register(fleet: Fleet, store: Store, tell: Tell) -> str:
    """Have an account at the fleet's CA, and return its URL; nothing is ordered.

    Raises:
        CaError, CaBusyError, ClockError, StoreError: as `obtain`.
    """
    _acme, account = steps.take(Step.LOG_IN, lambda: _log_in(fleet, store, tell))
    return account


def _log_in(fleet: Fleet, store: Store, tell: Tell) -> tuple[Client, str]:
    """Return the client and the account's URL; the clock is looked at before anything is asked."""
    binding = read_binding(fleet, store.binding_key)
    folder = store.account(fleet.authority.directory)
    bundle = str(store.directory_bundle) if fleet.authority.directory_bundle else SYSTEM_ROOTS
    network = Network(account_key(folder), bundle)
    acme = open_directory(network, fleet.authority)
    if warning := clock_finding(network.ca_date, datetime.now(timezone.utc)):
        tell(f"warning: {warning}")
    check_profile(acme, fleet.profile)
    return acme, log_in(acme, fleet.authority, folder, binding)


def replaced(before: Manifest | None, fleet: Fleet, account: str) -> str:
    """Return which certificate a new order replaces, as RFC 9773 section 5 allows; or nothing.

    Only one that this account at this CA ordered, and that has a name in common.
    """
    if before is None or before.directory != fleet.authority.directory:
        return ""
    if before.account != account or not set(before.names) & set(fleet.names):
        return ""
    return before.renewal_id


def _kept_key(fleet: Fleet, store: Store, before: Manifest | None) -> bytes:
    if not fleet.reuse_key or before is None or before.key_type != fleet.key_type.value:
        return b""
    if before.files["privkey.pem"] in store.compromised(fleet.lineage).key_sums:
        return b""
    return store.files(fleet.lineage, before.number)["privkey.pem"]


def forget(fleet: Fleet, store: Store) -> None:
    """Remove what was kept of an order whose certificate is in the archive, or of no use."""
    remove_folder(store.pending(fleet.lineage))


def pending_key_sum(fleet: Fleet, store: Store) -> str:
    """Return the SHA-256, in hex, of the key of an order that is open; empty: none is."""
    return Pending(store.pending(fleet.lineage)).key_sum()


def forget_if_kept(fleet: Fleet, store: Store) -> None:
    """Remove what is pending if it has become a generation: a run was cut off right after.

    An order with a compromised key is abandoned.
    """
    pending = Pending(store.pending(fleet.lineage))
    exposed = pending.key_sum() in store.compromised(fleet.lineage).key_sums
    if exposed or pending.is_of(store.manifests(fleet.lineage).values()):
        forget(fleet, store)

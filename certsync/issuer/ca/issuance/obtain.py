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
from certsync.issuer.situation import Situation
from certsync.issuer.steps import Step
from certsync.model.certificate import Certificate
from certsync.model.errors import CaError, CertsyncError, OrderFailedError, StoreError
from certsync.model.fleet import Lineage
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


def obtain(seen: Situation, now: datetime, tell: Tell, request: Request) -> Issued:
    """Order a certificate for all of a lineage's names, going on with an open order first.

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
    acme, account = steps.take(Step.LOG_IN, lambda: _log_in(seen, tell))
    forget_if_kept(seen)
    pending = _pending(seen)
    if request.anew:
        forget(seen)
    kept_key = b"" if request.new_key else _kept_key(seen, request.before)
    lineage, directory = seen.lineage, seen.fleet.authority.directory
    pending.prepare(directory, lineage, kept_key)
    tell(f"ordering a certificate for {', '.join(lineage.names)}")
    replaces = replaced(request.before, directory, lineage, account) if request.replacing else ""
    profile = lineage.profile
    try:
        order = steps.take(Step.PLACE, lambda: place(acme, pending, profile, replaces, tell))
    except CaError as error:
        if error.problem == "accountDoesNotExist":
            registration.forget(seen.store.account(directory))
        raise
    signed = _signed(acme, order, pending, seen)
    judge = Acceptance(lineage.names, pending, roots, request.insisting)
    issued = _accepted(acme, signed, judge, seen, now, tell)
    return Issued(pending.key.read_bytes(), issued, account, order.uri)


def _accepted(  # all that a chain is judged by
    acme: Client, signed: OrderResource, judge: Acceptance, seen: Situation, now: datetime,
    tell: Tell,
) -> Certificate:  # fmt: skip
    """Return what the CA has signed, fit to be served; an order for anything else is forgotten."""
    try:
        others = alternatives(acme, signed, tell)
        return judge.chosen(str(signed.fullchain_pem), others, now, tell)
    except Exception as error:
        # Fetched again, it would be the same: another order is needed.
        forget(seen)
        if isinstance(error, CertsyncError):
            raise
        raise OrderFailedError(f"the CA sent something that cannot be used: {error!r}") from error


def _signed(acme: Client, order: OrderResource, pending: Pending, seen: Situation) -> OrderResource:
    """Return an order that is validated and signed; what cannot be finished any more is forgotten.

    Raises:
        CaError: the CA refuses.
        OrderFailedError: this order came to nothing.
    """
    try:
        steps.take(Step.VALIDATE, lambda: validate(acme, order, seen.challenge))
        return steps.take(Step.SIGN, lambda: finalize(acme, order))
    except CaError as error:
        if error.problem in KEY_PROBLEMS:
            forget(seen)
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


def register(seen: Situation, tell: Tell) -> str:
    """Have an account at the fleet's CA, and return its URL; nothing is ordered.

    Raises:
        CaError, CaBusyError, ClockError, StoreError: as `obtain`.
    """
    _acme, account = steps.take(Step.LOG_IN, lambda: _log_in(seen, tell))
    return account


def _log_in(seen: Situation, tell: Tell) -> tuple[Client, str]:
    """Return the client and the account's URL; the clock is looked at before anything is asked."""
    authority = seen.fleet.authority
    binding = read_binding(seen.fleet, seen.store.binding_key)
    folder = seen.store.account(authority.directory)
    network = Network(account_key(folder), seen.bundle)
    acme = open_directory(network, authority)
    if warning := clock_finding(network.ca_date, datetime.now(timezone.utc)):
        tell(f"warning: {warning}")
    check_profile(acme, seen.lineage.profile)
    return acme, log_in(acme, authority, folder, binding)


def replaced(before: Manifest | None, directory: str, lineage: Lineage, account: str) -> str:
    """Return which certificate a new order replaces, as RFC 9773 section 5 allows; or nothing.

    Only one that this account at this CA ordered, and that has a name in common.
    """
    if before is None or before.directory != directory:
        return ""
    if before.account != account or not set(before.names) & set(lineage.names):
        return ""
    return before.renewal_id


def _kept_key(seen: Situation, before: Manifest | None) -> bytes:
    lineage = seen.lineage
    if not lineage.reuse_key or before is None or before.key_type != lineage.key_type.value:
        return b""
    if before.files["privkey.pem"] in seen.marks.key_sums:
        return b""
    return seen.store.files(seen.name, before.number)["privkey.pem"]


def _pending(seen: Situation) -> Pending:
    return Pending(seen.store.pending(seen.name))


def forget(seen: Situation) -> None:
    """Remove what was kept of an order whose certificate is in the archive, or of no use."""
    remove_folder(seen.store.pending(seen.name))


def pending_key_sum(seen: Situation) -> str:
    """Return the SHA-256, in hex, of the key of an order that is open; empty: none is."""
    return _pending(seen).key_sum()


def forget_if_kept(seen: Situation) -> None:
    """Remove what is pending if it has become a generation: a run was cut off right after.

    An order with a compromised key is abandoned.
    """
    pending = _pending(seen)
    exposed = pending.key_sum() in seen.marks.key_sums
    if exposed or pending.is_of(seen.manifests.values()):
        forget(seen)

"""Order a certificate: from a fleet to a signed certificate, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from acme.messages import OrderResource

from certsync.issuer import steps
from certsync.issuer.backoff import KEY_PROBLEMS
from certsync.issuer.ca import registration
from certsync.issuer.ca.issuance.acceptance import Acceptance, client_context
from certsync.issuer.ca.issuance.account import (
    AccountEndedError,
    account_key,
    has_ended,
    known_account,
    log_in,
    open_directory,
)
from certsync.issuer.ca.issuance.binding import read_binding
from certsync.issuer.ca.issuance.client import (
    WITHOUT_PROFILE,
    Client,
    check_profile,
    is_offered,
)
from certsync.issuer.ca.issuance.clock import time_to_go_by
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.issuance.order import alternatives, finalize, is_over, place, validate
from certsync.issuer.ca.issuance.pending import Pending
from certsync.issuer.ca.issuance.request import Request
from certsync.issuer.situation import Situation
from certsync.issuer.steps import Step
from certsync.model.certificate import Certificate
from certsync.model.errors import (
    CaError,
    CertsyncError,
    ClockError,
    OrderFailedError,
    StoreError,
    UnusableError,
)
from certsync.model.fleet import Authority, Lineage
from certsync.model.generation import Manifest
from certsync.system.files import remove_folder

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Issued:
    """A certificate from the CA, with its key."""

    key: bytes = field(repr=False)
    """The private key, PEM."""

    certificate: Certificate
    account: str
    """The URL of the account that ordered it."""

    order: str
    """The order's URL."""

    at: datetime | None = None
    """The CA's time, if its certificate was judged by it; None: by ours."""


def obtain(seen: Situation, now: datetime, tell: Tell, request: Request) -> Issued:
    """Order a certificate for all of a lineage's names, or resume an open order.

    ``tell`` gets a line for each step. The pending files stay until `forget` is called, once the
    certificate is safely kept.

    Raises:
        CaError: the CA refuses or cannot be reached.
        OrderFailedError: an order was placed, but failed.
        CaBusyError: it says when to come back.
        ClockError: this machine's clock is over an hour off the CA's, and there is time.
        StoreError: a file that the issuer needs is missing or invalid.
    """
    acme, account, time = steps.take(Step.LOG_IN, lambda: _log_in(seen, now, request.end, tell))
    insisting = request.end is not None and time >= request.end
    roots = _roots(request.roots, tell, insisting=insisting)
    forget_if_kept(seen)
    pending = _pending(seen)
    if request.anew:
        forget(seen)
    kept_key = b"" if request.new_key else _kept_key(seen, request.before)
    lineage, directory = seen.lineage, seen.fleet.authority.directory
    pending.prepare(directory, lineage, kept_key)
    tell(f"ordering a certificate for {', '.join(lineage.names)}")
    replaces = replaced(request.before, directory, lineage, account) if request.replacing else ""
    profile = lineage.profile if is_offered(acme, lineage.profile) else ""
    try:
        order = _placed(
            lambda wanted: place(acme, pending, wanted, replaces, tell),
            profile, tell, insisting=insisting,
        )  # fmt: skip
    except CaError as error:
        raise _without_account(error, acme, seen, now) from None
    signed = _signed(acme, order, pending, seen)
    judge = Acceptance(lineage.names, pending, roots, insisting)
    issued = _accepted(acme, signed, judge, seen, time, tell)
    at = time if time != now else None
    return Issued(pending.key.read_bytes(), issued, account, order.uri, at)


def _placed(
    place: Callable[[str], OrderResource], profile: str, tell: Tell, *, insisting: bool
) -> OrderResource:
    """Return a placed order; without its profile if the CA refuses that and time is running out."""
    try:
        return steps.take(Step.PLACE, lambda: place(profile))
    except CaError as error:
        if not profile or not insisting or error.problem != "invalidProfile":
            raise
        tell(f"warning: {error.message}: {WITHOUT_PROFILE}")
    return steps.take(Step.PLACE, lambda: place(""))


def _without_account(error: CaError, acme: Client, seen: Situation, now: datetime) -> CaError:
    """Give up an account that the CA no longer knows or has ended; return the error to raise."""
    folder = seen.store.account(seen.fleet.authority.directory)
    if error.problem == "accountDoesNotExist":
        registration.forget(folder)
    account = known_account(folder)
    if error.problem != "unauthorized" or account is None or not has_ended(acme, account):
        return error
    return _of_ended_account(error, folder, now)


def _of_ended_account(error: CaError, folder: Path, now: datetime) -> CaError:
    hint = "the next run registers a new one"
    if not registration.put_ended_aside(folder, now):
        hint = "it was registered less than a day ago; a new one is registered in a day"
    return CaError(f"{error.message}: the CA has ended our account", hint, error.problem)


def _accepted(
    acme: Client, signed: OrderResource, judge: Acceptance, seen: Situation, now: datetime,
    tell: Tell,
) -> Certificate:  # fmt: skip
    """Return the certificate if it may be served; otherwise forget the order."""
    try:
        others = alternatives(acme, signed, tell)
        return judge.chosen(str(signed.fullchain_pem), others, now, tell)
    except Exception as error:
        # Fetching it again would not help: another order is needed.
        forget(seen)
        if isinstance(error, CertsyncError):
            raise
        raise UnusableError(f"the CA's answer is unusable: {error!r}") from error


def _signed(acme: Client, order: OrderResource, pending: Pending, seen: Situation) -> OrderResource:
    """Validate and sign an order; forget one that can no longer be finished.

    Raises:
        CaError: the CA refuses.
        OrderFailedError: this order failed.
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


def _roots(roots: str, tell: Tell, *, insisting: bool) -> str:
    """Return the roots to check a chain against; none if unreadable and time is running out.

    Raises:
        StoreError: they cannot be read.
    """
    if not roots:
        return ""
    try:
        client_context(roots)
    except StoreError as error:
        if not insisting:
            raise
        tell(f"warning: {error.message}; the chain is not verified")
        return ""
    return roots


def register(seen: Situation, now: datetime, tell: Tell) -> str:
    """Register at the fleet's CA if necessary, and return the account's URL; nothing is ordered.

    Raises:
        CaError, CaBusyError, ClockError, StoreError: as `obtain`.
    """
    _acme, account, _ = steps.take(Step.LOG_IN, lambda: _log_in(seen, now, None, tell))
    return account


def _log_in(
    seen: Situation, now: datetime, end: datetime | None, tell: Tell
) -> tuple[Client, str, datetime]:
    """Return the client, the account's URL, and the time to go by: the clock is checked first."""
    authority = seen.fleet.authority
    binding = read_binding(seen.fleet, seen.store.binding_key)
    folder = seen.store.account(authority.directory)
    network = Network(account_key(folder), seen.bundle)
    acme = _opened(network, authority, end)
    time = time_to_go_by(network.ca_date, now, end, tell)
    check_profile(acme, seen.lineage.profile, tell, insisting=end is not None and time >= end)
    try:
        return acme, log_in(acme, authority, folder, binding), time
    except AccountEndedError as error:
        raise _of_ended_account(error, folder, now) from None


def _opened(network: Network, authority: Authority, end: datetime | None) -> Client:
    """Return a client with the CA's directory, although its own certificate may seem expired.

    By a wrong clock it does. Where something would expire, its time is then asked for with its
    chain verified, and only its dates not.
    """
    try:
        return open_directory(network, authority)
    except ClockError:
        if end is None:
            raise
        network.trust_any_date()
        return open_directory(network, authority)


def replaced(before: Manifest | None, directory: str, lineage: Lineage, account: str) -> str:
    """Return the certificate that a new order replaces (RFC 9773 section 5), or nothing.

    Only one that this account ordered at this CA, with a name in common.
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
    """Remove the files of an order whose certificate is in the archive or of no use."""
    remove_folder(seen.store.pending(seen.name))


def pending_key_sum(seen: Situation) -> str:
    """Return the SHA-256, in hex, of the open order's key; empty: there is none."""
    return _pending(seen).key_sum()


def forget_if_kept(seen: Situation) -> None:
    """Forget a pending order that is a generation already: a run was interrupted right after.

    An order with a compromised key is abandoned, too.
    """
    pending = _pending(seen)
    exposed = pending.key_sum() in seen.marks.key_sums
    if exposed or pending.is_of(seen.manifests.values()):
        forget(seen)

"""`certsync issue`, on the issuer: have a certificate for what the fleet asks for."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from certsync.issuer import steps, webroot
from certsync.issuer.backoff import KEY_PROBLEMS, Tries
from certsync.issuer.ca.before_order import free_number, look_before_buying
from certsync.issuer.ca.due import Outlook, Tell, outlook, wish
from certsync.issuer.replicas import outgoing, receivers
from certsync.issuer.schedule import (
    last_chance,
    young_until,
)
from certsync.issuer.steps import Step
from certsync.issuer.store import Store, generation_files, sums
from certsync.model.errors import (
    CaBusyError,
    CaError,
    CertsyncError,
    HostError,
    LaterError,
    OrderFailedError,
    TooSoonError,
    as_certsync_error,
)
from certsync.model.fleet import SYSTEM_ROOTS, Fleet
from certsync.model.generation import Manifest, number_text

if TYPE_CHECKING:
    # Its libraries are loaded when an order is made, not at every hourly run.
    from certsync.issuer.ca.issuance import Issued, Request


DROP_REPLACES_AFTER = 2
"""Failures after which an order no longer says which certificate it replaces: that alone may be
what the CA stumbles over."""

ABANDONING = 3
"""Failures after which an order that is still open is given up: its certificate may be one that
nobody can fetch."""


def issue(
    store: Store, now: datetime, tell: Tell, *, interactive: bool = True, force: bool = False
) -> int | None:
    """Order a certificate if one is due, and return its number; it is not live yet.

    ``interactive`` says that somebody is there to read the answer: only the CA's limits make them
    wait, and not the longer pauses of unattended runs. How it ended is remembered.

    Raises:
        DnsError: the names do not lead to the fleet.
        CanaryError: a challenge would be lost on its way.
        FencedError: a replica refuses the push key.
        CaError, CaBusyError, TooSoonError, ClockError: from the CA, or before asking it again.
        StoreError: the disk refuses.
    """
    look = outlook(store, now, force=force)
    _tidy(look.fleet, store)
    if look.due is None:
        if look.account:
            _enroll(look, store, now, tell, interactive=interactive)
        return None
    tries = look.lineage.tries.of(wish(look.fleet))
    _wait_after_failures(tries, now, interactive=interactive or force)
    tell(f"a certificate is needed: {look.due.why}")
    fleet, free = steps.take(Step.LOOK, lambda: _looked(look, store, now, tell))
    from certsync.issuer.ca import issuance

    request = _request(look, tries, store, now)
    try:
        issued = issuance.obtain(fleet, store, now, tell, request)
    except Exception as error:
        # Every failure is a try: one that is not noted would be made again every hour.
        _note(store, fleet, _after(tries, as_certsync_error(error), now), now)
        raise
    number = _kept(fleet, free, issued, store, tell)
    if refused := _refused_here(fleet, number, store, now):
        _remember(store, fleet, _after(tries, refused, now), now)
        raise refused
    _remember(store, fleet, Tries(), now, renewed_early_at=_is_early(look, now))
    return number


def _enroll(look: Outlook, store: Store, now: datetime, tell: Tell, *, interactive: bool) -> None:
    """Register at the CA though nothing is due: when something is, it may be too late."""
    from certsync.issuer.ca import issuance

    tries = look.lineage.tries.of(wish(look.fleet))
    _wait_after_failures(tries, now, interactive=interactive)
    tell(f"warning: {look.account}")
    try:
        account = issuance.register(look.fleet, store, tell)
    except Exception as error:
        # As with an order: one that is not noted would be made again every hour.
        _note(store, look.fleet, _after(tries, as_certsync_error(error), now), now)
        raise
    _remember(store, look.fleet, Tries(orders=tries.orders, wish=tries.wish), now)
    tell(f"registered at the CA: account {account}")


def _request(look: Outlook, tries: Tries, store: Store, now: datetime) -> Request:
    """Return how to order after these failures."""
    from certsync.issuer.ca import issuance

    authority = look.fleet.authority
    end = last_chance(look.newest)
    return issuance.Request(
        before=look.newest,
        replacing=tries.count < DROP_REPLACES_AFTER,
        new_key=bool(look.compromised) or tries.problem in KEY_PROBLEMS,
        anew=tries.count >= ABANDONING,
        roots=str(store.roots) if authority.roots else SYSTEM_ROOTS,
        insisting=end is not None and now >= end,
    )


def _note(store: Store, fleet: Fleet, tries: Tries, now: datetime) -> None:
    """Remember failures where the disk takes it; what has failed is what people hear of."""
    with contextlib.suppress(OSError):
        _remember(store, fleet, tries, now)


def _is_early(look: Outlook, now: datetime) -> bool:
    """Return whether only the CA's advice has had so young a certificate renewed."""
    by_time = look.due is not None and look.due.since is not None
    return by_time and look.newest is not None and now < young_until(look.newest)


def _tidy(fleet: Fleet, store: Store) -> None:
    """Remove what a killed run left behind, keys above all: the next order may be months away."""
    outgoing.remove_outbox()
    webroot.clear(store.webroot)
    if store.pending(fleet.lineage).exists():
        from certsync.issuer.ca import issuance

        issuance.forget_if_kept(fleet, store)


def _wait_after_failures(tries: Tries, now: datetime, *, interactive: bool) -> None:
    moment = tries.next_by_person(now) if interactive else tries.next(now)
    if moment <= now:
        return
    again = f"it is tried again after {moment:%Y-%m-%d %H:%M:%S} UTC"
    if interactive or tries.exit_status == LaterError.exit_status:
        raise TooSoonError(f"{tries.error}; {again}", "nothing is lost: the same command continues")
    raise CaError(f"{tries.error}; {again}", tries.hint or "`certsync renew --force` does not wait")


def _after(tries: Tries, error: CertsyncError, now: datetime) -> Tries:
    found = tries.failed(
        now,
        error.message,
        error.hint,
        error.exit_status,
        order=isinstance(error, OrderFailedError),
        ca_said=error.until if isinstance(error, CaBusyError) else None,
    )
    # Kept until a certificate is there: the refused key would be refused again.
    problem = error.problem if isinstance(error, CaError) else ""
    is_kept = tries.problem in KEY_PROBLEMS
    return replace(found, problem=tries.problem if is_kept else problem)


def _remember(
    store: Store, fleet: Fleet, tries: Tries, now: datetime, *, renewed_early_at: bool = False
) -> None:
    state = store.recall()
    known = replace(state.lineage(fleet.lineage), tries=tries)
    if renewed_early_at:
        known = replace(known, renewed_early_at=now.isoformat())
    store.remember(state.having(fleet.lineage, known))


def _looked(look: Outlook, store: Store, now: datetime, tell: Tell) -> tuple[Fleet, int]:
    """Return what an order is spent on, and the number for what comes of it."""
    # First who is asked may say that another backend is the issuer: then challenges go there too.
    free = free_number(look.fleet, store, now)
    return look_before_buying(look, store, now, tell), free


def _kept(fleet: Fleet, number: int, issued: Issued, store: Store, tell: Tell) -> int:
    """Keep what the CA has signed as a new generation, and return its number."""
    from certsync.issuer.ca import issuance

    manifest = manifest_of(fleet, number, issued)
    steps.take(Step.KEEP, lambda: store.keep(manifest, issued.key, issued.certificate))
    steps.take(Step.FORGET, lambda: issuance.forget(fleet, store))
    tell(
        f"generation {number_text(manifest.number)}: {manifest.fingerprint[:12]}, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )
    return manifest.number


def _refused_here(
    fleet: Fleet, number: int, store: Store, now: datetime
) -> OrderFailedError | None:
    """Return the error for what this host's own receiver refuses; None: it does not refuse it.

    It would go live nowhere, and must not look as if a valid certificate were there. What else its
    receiver says, or that it says nothing, the rollout tells. Where the live certificate is about
    to expire, the replicas may take it all the same.
    """
    end = last_chance(store.live_manifest(fleet.lineage))
    if end is not None and now >= end:
        return None
    with receivers.connected(fleet) as backends:
        answers = receivers.each(lambda one: one.ask("check", fleet.lineage, number), backends[:1])
    answer = answers[0][1]
    if isinstance(answer, HostError) or answer.ok or not answer.of_content:
        return None
    why = answer.why
    store.refuse(fleet.lineage, number, why)
    return OrderFailedError(
        f"{fleet.issuer_name}, the issuer, refuses generation {number_text(number)}, which was "
        f"just ordered: {why}",
        "another one is ordered in a day, or with `certsync renew --force`; what was served before "
        "goes on being served",
    )


def manifest_of(fleet: Fleet, number: int, issued: Issued) -> Manifest:
    """Return what the generation of this number says of itself, from what the CA has issued."""
    certificate = issued.certificate
    return Manifest(
        lineage=fleet.lineage,
        number=number,
        names=certificate.names,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        key_type=fleet.key_type.value,
        directory=fleet.authority.directory,
        account=issued.account,
        files=sums(generation_files(issued.key, certificate)),
        order=issued.order,
        renewal_id=certificate.renewal_id,
        asked=tuple(sorted(fleet.names)),
    )

"""`certsync issue`, on the issuer: have a certificate for what the fleet asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from certsync.issuer import steps
from certsync.issuer.backoff import KEY_PROBLEMS, Tries
from certsync.issuer.ca.before_order import free_number, look_before_buying
from certsync.issuer.ca.due import Outlook, outlook
from certsync.issuer.replicas import outgoing, receivers
from certsync.issuer.run import Run
from certsync.issuer.schedule import (
    last_chance,
    young_until,
)
from certsync.issuer.situation import Situation
from certsync.issuer.steps import Step
from certsync.issuer.store import generation_files, sums
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
from certsync.model.fleet import Lineage
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


def issue(run: Run, *, interactive: bool = True, force: bool = False) -> int | None:
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
    look = outlook(run.seen, run.known, run.now, force=force)
    _tidy(run.seen)
    if look.due is None:
        if look.account:
            _register(run, look, interactive=interactive)
        return None
    _wait_after_failures(look.tries, run.now, interactive=interactive or force)
    run.tell(f"a certificate is needed: {look.due.why}")
    lineage, number = steps.take(Step.LOOK, lambda: _looked(run, look))
    from certsync.issuer.ca import issuance

    seen = replace(run.seen, lineage=lineage)
    with _noting_a_failure(run, look.tries):
        issued = issuance.obtain(seen, run.now, run.tell, _request(seen, look, run.now))
    _keep(run, manifest_of(seen, number, issued), issued)
    if refused := _refused_here(run, number):
        run.note(tries=_after(look.tries, refused, run.now))
        raise refused
    run.note(tries=Tries())
    if _is_early(look, run.now):
        run.note(renewed_early_at=run.now)
    return number


def _register(run: Run, look: Outlook, *, interactive: bool) -> None:
    """Register at the CA though nothing is due: when something is, it may be too late."""
    from certsync.issuer.ca import issuance

    tries = look.tries
    _wait_after_failures(tries, run.now, interactive=interactive)
    run.tell(f"warning: {look.account}")
    with _noting_a_failure(run, tries):
        account = issuance.register(run.seen, run.tell)
    run.look_again()
    run.note(tries=Tries(orders=tries.orders, request_key=tries.request_key))
    run.tell(f"registered at the CA: account {account}")


@contextlib.contextmanager
def _noting_a_failure(run: Run, tries: Tries) -> Iterator[None]:
    """Remember a failure: one that is not remembered would be repeated every hour."""
    try:
        yield
    except Exception as error:
        # Where the disk does not take it, the failure itself is still what people are told.
        with contextlib.suppress(OSError):
            run.note(tries=_after(tries, as_certsync_error(error), run.now))
        raise


def _request(seen: Situation, look: Outlook, now: datetime) -> Request:
    """Return how to order after these failures."""
    from certsync.issuer.ca import issuance

    tries, end = look.tries, last_chance(look.newest)
    return issuance.Request(
        before=look.newest,
        replacing=tries.count < DROP_REPLACES_AFTER,
        new_key=bool(look.compromised) or tries.problem in KEY_PROBLEMS,
        anew=tries.count >= ABANDONING,
        roots=seen.roots,
        insisting=end is not None and now >= end,
    )


def _is_early(look: Outlook, now: datetime) -> bool:
    """Return whether only the CA's suggestion has had so young a certificate renewed."""
    by_time = look.due is not None and look.due.since is not None
    return by_time and look.newest is not None and now < young_until(look.newest)


def _tidy(seen: Situation) -> None:
    """Remove what a killed run left behind, keys above all: the next order may be months away."""
    outgoing.remove_outbox()
    seen.challenge.clear()
    if seen.store.pending(seen.name).exists():
        from certsync.issuer.ca import issuance

        issuance.forget_if_kept(seen)


def _wait_after_failures(tries: Tries, now: datetime, *, interactive: bool) -> None:
    moment = tries.next_interactive(now) if interactive else tries.next(now)
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


def _looked(run: Run, look: Outlook) -> tuple[Lineage, int]:
    """Return what an order is spent on, and the number for what comes of it."""
    # First who is asked may say that another backend is the issuer: then challenges go there too.
    number = free_number(run)
    return look_before_buying(run.seen, look, run.now, run.tell), number


def _keep(run: Run, manifest: Manifest, issued: Issued) -> None:
    """Keep what the CA has signed as a new generation."""
    from certsync.issuer.ca import issuance

    store = run.seen.store
    steps.take(Step.KEEP, lambda: store.keep(manifest, issued.key, issued.certificate))
    steps.take(Step.FORGET, lambda: issuance.forget(run.seen))
    run.look_again()
    run.tell(
        f"generation {number_text(manifest.number)}: {manifest.fingerprint[:12]}, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )


def _refused_here(run: Run, number: int) -> OrderFailedError | None:
    """Return the error for what this host's own receiver refuses; None: it does not refuse it.

    It would go live nowhere, and must not look as if a valid certificate were there. What else its
    receiver says, or that it says nothing, the rollout tells. Where the live certificate is about
    to expire, the replicas may take it all the same.
    """
    seen = run.seen
    end = last_chance(seen.live)
    if end is not None and run.now >= end:
        return None
    with receivers.connected(seen.fleet, ()) as backends:
        answers = receivers.each(lambda one: one.ask("check", seen.name, number), backends)
    answer = answers[0][1]
    if isinstance(answer, HostError) or answer.ok or not answer.of_content:
        return None
    why, issuer = answer.why, seen.fleet.issuer_name
    seen.store.refuse(seen.name, number, why)
    run.look_again()
    return OrderFailedError(
        f"{issuer}, the issuer, refuses generation {number_text(number)}, which was just ordered: "
        f"{why}",
        "another one is ordered in a day, or with `certsync renew --force`; what was served before "
        "goes on being served",
    )


def manifest_of(seen: Situation, number: int, issued: Issued) -> Manifest:
    """Return what the generation of this number says of itself, from what the CA has issued."""
    certificate = issued.certificate
    return Manifest(
        lineage=seen.name,
        number=number,
        names=certificate.names,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        key_type=seen.lineage.key_type.value,
        directory=seen.fleet.authority.directory,
        account=issued.account,
        files=sums(generation_files(issued.key, certificate)),
        order=issued.order,
        renewal_id=certificate.renewal_id,
        asked=tuple(sorted(seen.lineage.names)),
    )

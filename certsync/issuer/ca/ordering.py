"""`certsync issue`, on the issuer: order a certificate that matches the fleet file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from certsync.issuer import guards, steps
from certsync.issuer import issued as issued_before
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
    UnusableError,
    as_certsync_error,
)
from certsync.model.fleet import Lineage
from certsync.model.generation import Manifest, number_text

if TYPE_CHECKING:
    # Its libraries are loaded for an order, not in every hourly run.
    from certsync.issuer.ca.issuance import Issued, Request


DROP_REPLACES_AFTER = 2
"""Failures after which an order no longer names the certificate it replaces, in case the CA rejects
it because of that."""

ABANDONING = 3
"""Failures after which an open order is abandoned: perhaps its certificate can never be fetched."""


def issue(run: Run, *, interactive: bool = True, force: bool = False) -> int | None:
    """Order a certificate if one is due, and return its number; it is not live yet.

    ``interactive``: somebody is at the keyboard, so only the CA's limits apply, not the longer
    back-off of unattended runs. The outcome is recorded.

    Raises:
        DnsError: the names do not resolve to the fleet.
        CanaryError: a challenge would not reach the issuer.
        FencedError: a replica refuses the push key.
        CaError, CaBusyError, TooSoonError, ClockError: from the CA, or before asking it again.
        StoreError: the disk cannot be written.
    """
    look = outlook(run.seen, run.known, run.now, force=force)
    _tidy(run.seen)
    if look.due is None:
        if look.account:
            _register(run, look, interactive=interactive)
        return None
    _wait_after_failures(look, run.now, interactive=interactive or force)
    run.tell(f"a certificate is needed: {look.due.why}")
    lineage, number = steps.take(Step.LOOK, lambda: _looked(run, look))
    from certsync.issuer.ca import issuance

    seen = replace(run.seen, lineage=lineage)
    with _noting_a_failure(run, look.tries):
        issued = issuance.obtain(seen, run.now, run.tell, _request(run, seen, look))
    # All that follows in this run goes by the time by which the certificate was judged.
    if issued.at is not None:
        run.go_by(issued.at)
    _keep(run, manifest_of(seen, number, issued), issued)
    if refused := _refused_here(run, number):
        run.note(tries=_after(look.tries, refused, run.now))
        raise refused
    run.note(tries=Tries(unusable=look.tries.unusable), new_key=False)
    if _is_early(look, run.now):
        run.note(renewed_early_at=run.now)
    return number


def _register(run: Run, look: Outlook, *, interactive: bool) -> None:
    """Register at the CA although no order is due: when one is, it may be too late."""
    from certsync.issuer.ca import issuance

    tries = look.tries
    _wait_after_failures(look, run.now, interactive=interactive)
    run.tell(f"warning: {look.account}")
    with _noting_a_failure(run, tries):
        account = issuance.register(run.seen, run.now, run.tell)
    run.look_again()
    run.note(tries=tries.begun_anew(tries.request_key))
    run.tell(f"registered at the CA: account {account}")


@contextlib.contextmanager
def _noting_a_failure(run: Run, tries: Tries) -> Iterator[None]:
    """Record a failure; otherwise it would be repeated every hour."""
    try:
        yield
    except Exception as error:
        # If that fails, people should still see the original failure.
        with contextlib.suppress(OSError):
            run.note(tries=_after(tries, as_certsync_error(error), run.now))
        raise


def _request(run: Run, seen: Situation, look: Outlook) -> Request:
    """Return how to order, given the failures so far."""
    from certsync.issuer.ca import issuance

    tries = look.tries
    end = last_chance(look.newest) if look.newest else guards.guards_end(run)
    return issuance.Request(
        before=look.newest,
        replacing=tries.count < DROP_REPLACES_AFTER,
        new_key=bool(look.compromised) or run.known.new_key or tries.problem in KEY_PROBLEMS,
        anew=tries.count >= ABANDONING,
        roots=seen.roots,
        end=end,
    )


def _is_early(look: Outlook, now: datetime) -> bool:
    """Return whether a very young certificate was renewed only because the CA suggested it."""
    by_time = look.due is not None and look.due.since is not None
    return by_time and look.newest is not None and now < young_until(look.newest)


def _tidy(seen: Situation) -> None:
    """Remove what a killed run left behind, especially keys: the next order may be months away."""
    outgoing.remove_outbox()
    seen.challenge.clear()
    if seen.store.pending(seen.name).exists():
        from certsync.issuer.ca import issuance

        issuance.forget_if_kept(seen)


def _wait_after_failures(look: Outlook, now: datetime, *, interactive: bool) -> None:
    tries, end = look.tries, last_chance(look.newest)
    moment = tries.next_interactive(now) if interactive else tries.next(now, end)
    if moment <= now:
        return
    why = tries.error or "the CA lately signed several certificates that cannot be served"
    text = f"{why}; the next attempt is after {moment:%Y-%m-%d %H:%M:%S} UTC"
    if interactive or tries.exit_status == LaterError.exit_status:
        raise TooSoonError(text, "nothing is lost: run the same command again later")
    raise CaError(text, tries.hint or "retry now: `certsync renew --force`")


def _after(tries: Tries, error: CertsyncError, now: datetime) -> Tries:
    found = tries.failed(
        now,
        error.message,
        error.hint,
        error.exit_status,
        order=isinstance(error, OrderFailedError),
        unusable=isinstance(error, UnusableError),
        ca_said=error.until if isinstance(error, CaBusyError) else None,
    )
    # Kept until a certificate is issued: a rejected key would be rejected again.
    problem = error.problem if isinstance(error, CaError) else ""
    is_kept = tries.problem in KEY_PROBLEMS
    return replace(found, problem=tries.problem if is_kept else problem)


def _looked(run: Run, look: Outlook) -> tuple[Lineage, int]:
    """Return what to order, and the number for the new generation."""
    # First, because it may show that another backend is the issuer, which gets the challenges then.
    number = free_number(run)
    return look_before_buying(run, look), number


def _keep(run: Run, manifest: Manifest, issued: Issued) -> None:
    """Keep the issued certificate as a new generation."""
    from certsync.issuer.ca import issuance

    store = run.seen.store
    issued_before.note(run.seen, run.now)
    steps.take(Step.KEEP, lambda: store.keep(manifest, issued.key, issued.certificate))
    steps.take(Step.FORGET, lambda: issuance.forget(run.seen))
    run.look_again()
    run.tell(
        f"generation {number_text(manifest.number)}: {manifest.fingerprint[:12]}, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )


def _refused_here(run: Run, number: int) -> UnusableError | None:
    """Return an error if this host's own receiver refuses the generation; None: it does not.

    A refused generation would be activated nowhere and must not count as a valid certificate. The
    rollout reports other failures of the receiver. If the live certificate is about to expire, the
    replicas may still accept it.
    """
    seen = run.seen
    with receivers.connected(seen.fleet, (), clock_off=run.clock_off) as backends:
        answers = receivers.each(lambda one: one.ask("check", seen.name, number), backends)
    answer = answers[0][1]
    if isinstance(answer, HostError) or answer.ok or not answer.of_content:
        return None
    if guards.have_ended(run):
        return None
    why, issuer = answer.why, seen.fleet.issuer_name
    seen.store.refuse(seen.name, number, why)
    run.look_again()
    return UnusableError(
        f"{issuer}, the issuer, refuses generation {number_text(number)}, which was just ordered: "
        f"{why}",
        "another one is ordered in a day, or now with `certsync renew --force`; what was served "
        "before is still served",
    )


def manifest_of(seen: Situation, number: int, issued: Issued) -> Manifest:
    """Return a new generation's manifest, from what the CA issued."""
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

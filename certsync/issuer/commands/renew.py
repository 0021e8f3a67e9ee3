"""`certsync renew`, on the issuer, every hour: finish, heal, prove, and renew what is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certsync.issuer import replacement
from certsync.issuer.ca import ari, due, ordering, renewal_info
from certsync.issuer.hourly import Run
from certsync.issuer.lineages import each_lineage, together
from certsync.issuer.monitoring.afterwards import Ended, afterwards
from certsync.issuer.replicas.expected import expected
from certsync.issuer.state import Lineage
from certsync.issuer.store import Store
from certsync.issuer.tickets import share
from certsync.model.errors import (
    CertsyncError,
    ClockError,
)
from certsync.model.generation import Manifest, number_text
from certsync.model.proof import Verdict
from certsync.programs.receiver import CLOCK_TOLERANCE
from certsync.system import proving

Tell = Callable[[str], None]

FUTURE = timedelta(days=1)
"""How far a generation's begin may lie ahead of a clock that may be wrong."""

ASK_ALL = timedelta(days=1)
"""How often every backend is asked what it holds, though it serves what it should: a damaged copy
shows at the next boot, and that may be the worst moment."""


def renew(store: Store, now: datetime, tell: Tell, done: list[str], *, force: bool = False) -> None:
    """Do all that is to be done; what is in order costs a handshake with each backend.

    ``done`` gets what was changed, in words; ``force`` orders a certificate though none is due.

    Raises:
        RolloutError: a backend does not hold or serve the generation; each is named.
        LaterError: the CA said when to come back, or the names do not lead here.
        CertsyncError: another failure, see `issue`; all of them in one message.
    """
    hours: list[Run] = []

    def work(one: Store, say: Tell, did: list[str]) -> None:
        run = Run(one.fleet(), one, now, say, did)
        hours.append(run)
        run.part(lambda: _all_of_it(run, force=force))
        if trouble := run.trouble():
            raise trouble

    problems: list[CertsyncError] = []
    try:
        each_lineage(store, tell, done, work)
    except CertsyncError as error:
        problems.append(error)
    last = Run(store.fleet(), store, now, tell, done)
    if all(run.knows_the_time and not run.is_fenced for run in hours):
        last.part(lambda: _share_tickets(last, hours))
    trouble = together([*problems, *last.problems])
    # On a full disk people hear of it in every run, because it cannot be noted that they did.
    ended = [Ended(run.store, run.trouble(), run.proofs) for run in hours]
    last.part(lambda: afterwards(_sharing(ended, last), now, trouble, tell))
    if trouble := together([*problems, *last.problems]):
        raise trouble


def _share_tickets(last: Run, hours: Sequence[Run]) -> None:
    """Give the session ticket keys to whoever was seen to lack them, and rotate them in time."""
    proofs = {run.fleet.lineage: run.proofs for run in hours if run.proofs}
    if proofs:
        share.share(last.store, last.now, proofs, last.tell, last.done)


def _sharing(ended: list[Ended], last: Run) -> list[Ended]:
    """Count what went wrong with the whole fleet as the first lineage's, so that people hear it."""
    problems = [each for each in (ended[0].error, last.trouble()) if each]
    return [replace(ended[0], error=together(problems)), *ended[1:]]


def _all_of_it(run: Run, *, force: bool) -> None:
    # Before anything else: state of a newer version stops the run.
    run.store.recall()
    _tell_damages(run)
    _bar_the_future(run)
    newest = _newest(run)
    if newest:
        _refuse_the_past(newest, run.now)
        run.part(lambda: _heal(run, newest))
        run.part(lambda: _ask_ca(run, newest))
    elif run.store.current(run.fleet.lineage):
        # What is live is compromised, and nothing else is there yet: who is behind is told still.
        run.part(lambda: _prove(run))
    if not run.is_fenced:
        run.part(lambda: _order(run, force=force))
    if not run.is_fenced:
        run.part(lambda: _finish_compromise(run))
    run.part(lambda: _remember(run))


def _tell_damages(run: Run) -> None:
    for number in run.store.damaged(run.fleet.lineage):
        run.tell(f"warning: generation {number_text(number)} is damaged on this disk: not used")


def _bar_the_future(run: Run) -> None:
    """Have a generation that is not valid for long keep no order from being made.

    An older version kept what a CA signed like that. That the live one is valid shows that the
    clock is not the reason.
    """
    live, newest = run.store.live_manifest(run.fleet.lineage), _newest(run)
    if live is None or newest is None or not live.not_before <= run.now < live.not_after:
        return
    if newest.not_before - run.now > FUTURE:
        why = f"not valid before {newest.not_before:%Y-%m-%d %H:%M} UTC"
        run.tell(f"warning: generation {number_text(newest.number)} is {why}: not used")
        run.store.refuse(run.fleet.lineage, newest.number, why)


def _newest(run: Run) -> Manifest | None:
    number = run.store.target(run.fleet.lineage)
    return run.store.manifests(run.fleet.lineage)[number] if number else None


def _refuse_the_past(newest: Manifest, now: datetime) -> None:
    if now + timedelta(seconds=CLOCK_TOLERANCE) < newest.not_before:
        raise ClockError(
            f"the issuer's clock says {now:%Y-%m-%d %H:%M} UTC, before generation "
            f"{number_text(newest.number)} was made ({newest.not_before:%Y-%m-%d %H:%M} UTC)",
            "set the clock (timedatectl set-ntp true); nothing was changed",
        )


def _heal(run: Run, newest: Manifest) -> None:
    """Finish what an interrupted run left, and catch up who is behind."""
    fleet, store, now = run.fleet, run.store, run.now
    _prove(run)
    known = store.recall().lineage(fleet.lineage)
    lagging = [proof for proof in run.proofs if proof.verdict is not Verdict.IN_SYNC]
    for proof in lagging:
        run.tell(f"{proof.name}: {proof.why}")
    unfinished = store.current(fleet.lineage) != newest.number
    asked = _moment(known.asked_all) if known.asked_all else None
    # One in the future was written under a wrong clock.
    long_ago = asked is None or not timedelta(0) <= now - asked <= ASK_ALL
    # One that has expired by our clock is refused everywhere; whether the clock is right, the CA
    # says when the next one is ordered.
    compromise = bool(store.compromised(fleet.lineage).open)
    if (lagging or unfinished or long_ago or compromise) and now < newest.not_after:
        run.roll_out()


def _prove(run: Run) -> None:
    fleet, store = run.fleet, run.store
    run.proofs = proving.prove(fleet.holders, fleet, expected(fleet, store), run.now)


def _ask_ca(run: Run, newest: Manifest) -> None:
    """Ask the CA when it suggests renewing, if that is due; report it if it does not answer."""
    state = run.store.recall()
    known = state.lineage(run.fleet.lineage)
    if run.now >= newest.not_after or newest.directory != run.fleet.authority.directory:
        return
    if not renewal_info.ask_now(known.advice, newest.fingerprint, run.now):
        return
    try:
        found, answer = ari.ask(run.fleet, run.store, newest, run.now)
    except CertsyncError as error:
        run.tell(f"warning: {error.message}")
        return
    if off := _off(answer.ca_date, run.now):
        run.tell(f"warning: {off}")
    if found.explanation and (known.advice is None or known.advice.window != found.window):
        run.tell(f"the CA explains its renewal window: {found.explanation}")
    lineage = replace(known, advice=found)
    run.store.remember(state.having(run.fleet.lineage, lineage))


def _off(ca_date: datetime | None, now: datetime) -> str:
    if ca_date is None or abs(now - ca_date) < timedelta(minutes=5):
        return ""
    minutes = (now - ca_date) / timedelta(minutes=1)
    side = "ahead of" if minutes > 0 else "behind"
    return f"the issuer's clock is {abs(minutes):.0f} minutes {side} the CA's"


def _order(run: Run, *, force: bool) -> None:
    number = ordering.issue(run.store, run.now, run.tell, interactive=False, force=force)
    if number is not None:
        run.done.append(f"ordered generation {number_text(number)}")
        run.roll_out()


def _finish_compromise(run: Run) -> None:
    """Revoke and delete what a compromise has left, which is nothing in nearly every run."""
    replacement.finish(run.store, run.now, run.tell, run.done, run.proofs)


def _remember(run: Run) -> None:
    """Write down per lineage and backend what people and the next run want to know."""
    store, lineage = run.store, run.fleet.lineage
    state = store.recall()
    known = state.lineage(lineage)
    if run.proofs:
        known = known.seen(run.proofs, run.pushed, run.now)
    known = _dated(known, store, run)
    if run.asked_all:
        known = replace(known, asked_all=run.now.isoformat())
    if run.mixed_seconds is not None:
        known = replace(known, mixed_seconds=run.mixed_seconds)
    store.remember(state.having(lineage, known))


def _dated(known: Lineage, store: Store, run: Run) -> Lineage:
    look = due.outlook(store, run.now)
    coming = look.next(run.now)
    if look.newest is None or coming is None:
        return known
    # What is live, and not what should be: it is the live one that expires.
    number = store.current(look.fleet.lineage) or 0
    live = store.manifests(look.fleet.lineage).get(number, look.newest)
    return replace(
        known,
        generation=number_text(live.number),
        not_before=live.not_before.isoformat(),
        not_after=live.not_after.isoformat(),
        next_check=known.advice.ask_again.isoformat() if known.advice else "",
        next_renewal=coming.moment.isoformat(),
        why=coming.why,
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)

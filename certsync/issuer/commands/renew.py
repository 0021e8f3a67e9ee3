"""`certsync renew`, on the issuer, every hour: finish, heal, prove, and renew what is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from certsync.issuer import replacement
from certsync.issuer.ca import ari, due, ordering, renewal_info
from certsync.issuer.hourly import Hourly, Parts
from certsync.issuer.monitoring.afterwards import Ended, afterwards
from certsync.issuer.replicas.expected import expected
from certsync.issuer.run import Run, Session, prefixed, together
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.issuer.tickets import share
from certsync.model.errors import CertsyncError, ClockError, as_certsync_error
from certsync.model.fleet import Fleet, Lineage
from certsync.model.generation import Manifest, number_text
from certsync.model.proof import Verdict
from certsync.programs.receiver import CLOCK_TOLERANCE
from certsync.system import proving

FUTURE = timedelta(days=1)
"""How far a generation's begin may lie ahead of a clock that may be wrong."""

ASK_ALL = timedelta(days=1)
"""How often every backend is asked what it holds, though it serves what it should: a damaged copy
shows at the next boot, and that may be the worst moment."""


def renew(session: Session, *, force: bool = False) -> None:
    """Do all that is to be done; what is in order costs a handshake with each backend.

    ``force`` orders a certificate though none is due.

    Raises:
        RolloutError: a backend does not hold or serve the generation; each is named.
        LaterError: the CA said when to come back, or the names do not lead here.
        CertsyncError: another failure, see `issue`; all of them in one message.
    """
    fleet = session.store.fleet()
    hours, ended, problems = list[Hourly](), list[Ended](), list[CertsyncError]()
    for lineage in fleet.lineages:
        prefix = f"{lineage.name}: " if fleet.has_several else ""
        hour, error = _hour(session, fleet, lineage, prefix, force=force)
        ended.append(Ended(lineage.name, error, hour.proofs if hour else []))
        hours += [hour] if hour else []
        problems += [prefixed(error, prefix)] if error else []
    last = Parts(session.tell)
    if len(hours) == len(fleet.lineages) and all(not hour.stops_the_rest for hour in hours):
        last.part(lambda: _share_tickets(session, hours))
    trouble = together([*problems, *last.problems])
    # On a full disk people hear of it in every run, because it cannot be noted that they did.
    last.part(lambda: afterwards(session, fleet, _with(last, ended), trouble))
    if trouble := together([*problems, *last.problems]):
        raise trouble


def _hour(
    session: Session, fleet: Fleet, lineage: Lineage, prefix: str, *, force: bool
) -> tuple[Hourly | None, CertsyncError | None]:
    """Return the hourly run of one lineage, and what went wrong; None: its disk cannot be read."""
    try:
        hour = Hourly(session.run(fleet, lineage, prefix))
    except (CertsyncError, OSError) as error:
        return None, as_certsync_error(error)
    hour.part(lambda: _all_of_it(hour, force=force))
    return hour, hour.trouble()


def _share_tickets(session: Session, hours: Sequence[Hourly]) -> None:
    """Give the session ticket keys to whoever was seen to lack them, and rotate them in time."""
    proofs = {hour.run.name: hour.proofs for hour in hours if hour.proofs}
    if proofs:
        share.share(session, [hour.run.seen for hour in hours], proofs)


def _with(last: Parts, ended: Sequence[Ended]) -> list[Ended]:
    """Count what went wrong with the whole fleet as the first lineage's, so that people hear it."""
    problems = [each for each in (ended[0].error, last.trouble()) if each]
    return [replace(ended[0], error=together(problems)), *ended[1:]]


def _all_of_it(hour: Hourly, *, force: bool) -> None:
    run = hour.run
    # Before anything else: state of a newer version stops the run.
    known = run.known
    for number in run.seen.damaged:
        run.tell(f"warning: generation {number_text(number)} is damaged on this disk: not used")
    _bar_the_future(run)
    newest = run.seen.newest
    if newest:
        _refuse_the_past(newest, run.now)
        hour.part(lambda: _heal(hour, newest, known))
        hour.part(lambda: _ask_ca(run, newest))
    elif run.seen.current:
        # What is live is compromised, and nothing else is there yet: who is behind is told still.
        hour.part(lambda: _prove(hour))
    if not hour.is_fenced:
        hour.part(lambda: _order(hour, force=force))
    if not hour.is_fenced:
        # Revoke and delete what a compromise has left, which is nothing in nearly every run.
        hour.part(lambda: replacement.finish(run, hour.proofs))
    hour.part(lambda: _remember(hour))


def _bar_the_future(run: Run) -> None:
    """Have a generation that is not valid for long keep no order from being made.

    An older version kept what a CA signed like that. That the live one is valid shows that the
    clock is not the reason.
    """
    live, newest = run.seen.live, run.seen.newest
    if live is None or newest is None or not live.not_before <= run.now < live.not_after:
        return
    if newest.not_before - run.now > FUTURE:
        why = f"not valid before {newest.not_before:%Y-%m-%d %H:%M} UTC"
        run.tell(f"warning: generation {number_text(newest.number)} is {why}: not used")
        run.seen.store.refuse(run.name, newest.number, why)
        run.look_again()


def _refuse_the_past(newest: Manifest, now: datetime) -> None:
    if now + timedelta(seconds=CLOCK_TOLERANCE) < newest.not_before:
        raise ClockError(
            f"the issuer's clock says {now:%Y-%m-%d %H:%M} UTC, before generation "
            f"{number_text(newest.number)} was made ({newest.not_before:%Y-%m-%d %H:%M} UTC)",
            "set the clock (timedatectl set-ntp true); nothing was changed",
        )


def _heal(hour: Hourly, newest: Manifest, known: LineageState) -> None:
    """Finish what an interrupted run left, and catch up who is behind."""
    seen, now = hour.run.seen, hour.run.now
    _prove(hour)
    lagging = [proof for proof in hour.proofs if proof.verdict is not Verdict.IN_SYNC]
    for proof in lagging:
        hour.tell(f"{proof.name}: {proof.why}")
    unfinished = seen.current != newest.number
    # One in the future was written under a wrong clock.
    asked = known.asked_all
    long_ago = asked is None or not timedelta(0) <= now - asked <= ASK_ALL
    # One that has expired by our clock is refused everywhere; whether the clock is right, the CA
    # says when the next one is ordered.
    if (lagging or unfinished or long_ago or seen.marks.open) and now < newest.not_after:
        hour.roll_out()


def _prove(hour: Hourly) -> None:
    seen = hour.run.seen
    hour.proofs = proving.prove(seen.holders, seen.name, expected(seen), hour.run.now)


def _ask_ca(run: Run, newest: Manifest) -> None:
    """Ask the CA when it suggests renewing, if that is due; report it if it does not answer."""
    before, directory = run.known.renewal_info, run.seen.fleet.authority.directory
    if run.now >= newest.not_after or newest.directory != directory:
        return
    if not renewal_info.ask_now(before, newest.fingerprint, run.now):
        return
    try:
        found, answer = ari.ask(directory, run.seen.bundle, newest, run.now)
    except CertsyncError as error:
        run.tell(f"warning: {error.message}")
        return
    if off := _off(answer.ca_date, run.now):
        run.tell(f"warning: {off}")
    if found.explanation and (before is None or before.window != found.window):
        run.tell(f"the CA explains its renewal window: {found.explanation}")
    run.note(renewal_info=found)


def _off(ca_date: datetime | None, now: datetime) -> str:
    if ca_date is None or abs(now - ca_date) < timedelta(minutes=5):
        return ""
    minutes = (now - ca_date) / timedelta(minutes=1)
    side = "ahead of" if minutes > 0 else "behind"
    return f"the issuer's clock is {abs(minutes):.0f} minutes {side} the CA's"


def _order(hour: Hourly, *, force: bool) -> None:
    number = ordering.issue(hour.run, interactive=False, force=force)
    if number is not None:
        hour.run.did(f"ordered generation {number_text(number)}")
        hour.roll_out()


def _remember(hour: Hourly) -> None:
    """Write down per lineage and backend what people and the next run want to know."""
    run = hour.run
    known = run.known
    changes = _dates(run.seen, known, run.now)
    if hour.proofs:
        changes["backends"] = known.seen(hour.proofs, hour.pushed, run.now).backends
    if hour.asked_all:
        changes["asked_all"] = run.now
    if hour.mixed_seconds is not None:
        changes["mixed_seconds"] = hour.mixed_seconds
    run.note(**changes)


def _dates(seen: Situation, known: LineageState, now: datetime) -> dict[str, Any]:
    look = due.outlook(seen, known, now)
    coming = look.next(now)
    if look.newest is None or coming is None:
        return {}
    # What is live, and not what should be: it is the live one that expires.
    live = seen.kept.get(seen.current or 0)
    shown = live.manifest if live else look.newest
    return {
        "generation": number_text(shown.number),
        "not_before": shown.not_before,
        "not_after": shown.not_after,
        "next_check": known.renewal_info.ask_again if known.renewal_info else None,
        "next_renewal": coming.moment,
        "why": coming.why,
    }

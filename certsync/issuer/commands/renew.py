"""`certsync renew`, hourly on the issuer: finish interrupted work, heal, prove, and renew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from certsync.issuer import broken_records, challenge_watch, guards, replacement
from certsync.issuer.ca import ari, due, ordering, renewal_info, right_time
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

GOING_BY_CA = "going by the CA's clock, because the live certificate expires soon"

FUTURE = timedelta(days=1)
"""How far in the future a generation's validity may begin before it is refused."""

ASK_ALL = timedelta(days=1)
"""How often every backend is asked what it holds, even if it serves the right generation: otherwise
a damaged copy would only show at the next boot."""


def renew(session: Session, *, force: bool = False) -> None:
    """Do whatever is due; if nothing is, it takes one handshake with each backend.

    ``force`` orders a certificate even if none is due.

    Raises:
        RolloutError: a backend does not hold or serve the generation; each is named.
        LaterError: the CA asked to come back later, or the names do not resolve to the fleet.
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
    # On a full disk people are notified in every run, because that cannot be recorded.
    last.part(lambda: afterwards(session, fleet, _with(last, ended), trouble))
    if trouble := together([*problems, *last.problems]):
        raise trouble


def _hour(
    session: Session, fleet: Fleet, lineage: Lineage, prefix: str, *, force: bool
) -> tuple[Hourly | None, CertsyncError | None]:
    """Run one lineage; return the run and its error. The run is None if the disk is unreadable."""
    try:
        hour = Hourly(broken_records.run_on(session, fleet, lineage, prefix))
    except (CertsyncError, OSError) as error:
        return None, as_certsync_error(error)
    hour.part(lambda: _all_of_it(hour, force=force))
    return hour, hour.trouble()


def _share_tickets(session: Session, hours: Sequence[Hourly]) -> None:
    """Push the session ticket keys to backends that lack them, and rotate them when due."""
    proofs = {hour.run.name: hour.proofs for hour in hours if hour.proofs}
    if proofs:
        share.share(session, [hour.run.seen for hour in hours], proofs)


def _with(last: Parts, ended: Sequence[Ended]) -> list[Ended]:
    """Add errors of the whole fleet to the first lineage's, so that people are notified."""
    problems = [each for each in (ended[0].error, last.trouble()) if each]
    return [replace(ended[0], error=together(problems)), *ended[1:]]


def _all_of_it(hour: Hourly, *, force: bool) -> None:
    run = hour.run
    # First of all: state from a newer version stops the run.
    known = run.known
    for number in run.seen.damaged:
        run.tell(f"warning: ignoring generation {number_text(number)}, damaged on this disk")
    _bar_the_future(run)
    newest = run.seen.newest
    if newest:
        _know_the_time(run, newest)
        # First, because it may show that the clock is wrong, and that time is running out.
        hour.part(lambda: _ask_ca(run, newest))
        hour.part(lambda: _heal(hour, newest, known))
    elif run.seen.current:
        # The live one is compromised and there is no other yet: backends are still checked.
        _go_by_ca_if_late(run, _ca_date(run))
        hour.part(lambda: _prove(hour))
    if not hour.is_fenced:
        hour.part(lambda: _order(hour, force=force))
    if not hour.is_fenced:
        # Revoke and delete what remains of a compromise: nearly always nothing.
        hour.part(lambda: replacement.finish(run, hour.proofs))
    if newest and not hour.is_fenced:
        hour.part(lambda: challenge_watch.look(run))
    hour.part(lambda: _remember(hour))


def _bar_the_future(run: Run) -> None:
    """Do not let a generation that is not valid yet prevent an order.

    An older version may have kept such a certificate. If the live one is valid, the clock is not
    the reason.
    """
    live, newest = run.seen.live, run.seen.newest
    if live is None or newest is None or not live.not_before <= run.now < live.not_after:
        return
    if newest.not_before - run.now > FUTURE:
        why = f"not valid before {newest.not_before:%Y-%m-%d %H:%M} UTC"
        run.tell(f"warning: ignoring generation {number_text(newest.number)}: {why}")
        run.seen.store.refuse(run.name, newest.number, why)
        run.look_again()


def _know_the_time(run: Run, newest: Manifest) -> None:
    """Refuse to go on with a clock from before the newest certificate; in the end, ask the CA.

    It is also asked where that certificate has expired by our clock: ours may be ahead.

    Raises:
        ClockError: the clock is wrong, and there is time to set it, or nobody to ask.
    """
    if not newest.not_before <= run.now < newest.not_after:
        _go_by_ca_if_late(run, _ca_date(run))
    _refuse_the_past(newest, run.now)


def _ca_date(run: Run) -> datetime | None:
    return right_time.ask(run.seen.fleet.authority.directory, run.seen.bundle)


def _refuse_the_past(newest: Manifest, now: datetime) -> None:
    if now + timedelta(seconds=CLOCK_TOLERANCE) < newest.not_before:
        raise ClockError(
            f"the issuer's clock says {now:%Y-%m-%d %H:%M} UTC, which is before generation "
            f"{number_text(newest.number)} was issued ({newest.not_before:%Y-%m-%d %H:%M} UTC)",
            "set the clock (timedatectl set-ntp true); nothing was changed",
        )


def _heal(hour: Hourly, newest: Manifest, known: LineageState) -> None:
    """Finish what an interrupted run left, and catch up backends that are behind."""
    seen, now = hour.run.seen, hour.run.now
    _prove(hour)
    lagging = [proof for proof in hour.proofs if proof.verdict is not Verdict.IN_SYNC]
    for proof in lagging:
        hour.tell(f"{proof.name}: {proof.why}")
    unfinished = seen.current != newest.number
    # A moment in the future was written while the clock was wrong.
    asked = known.asked_all
    long_ago = asked is None or not timedelta(0) <= now - asked <= ASK_ALL
    # If it has expired by our clock, every backend refuses it; the next order checks the clock
    # against the CA's.
    if (lagging or unfinished or long_ago or seen.marks.open) and now < newest.not_after:
        hour.roll_out()


def _prove(hour: Hourly) -> None:
    run, seen = hour.run, hour.run.seen
    hour.proofs = proving.prove(seen.holders, seen.name, expected(seen), run.now, run.patience)


def _ask_ca(run: Run, newest: Manifest) -> None:
    """Ask the CA when it suggests renewing, if that is due; a failure is only reported."""
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
        _go_by_ca_if_late(run, answer.ca_date)
    if found.explanation and (before is None or before.window != found.window):
        run.tell(f"the CA's explanation of its renewal window: {found.explanation}")
    run.note(renewal_info=found)


def _go_by_ca_if_late(run: Run, ca_date: datetime | None) -> None:
    """Go by the CA's time if ours is far off and guards have ended by the CA's.

    With a clock that is far behind, an order may be due, and nobody knows; with one that is far
    ahead, a good certificate seems to have expired, and is brought to nobody.
    """
    if not right_time.is_far_off(ca_date, run.now):
        return
    time = right_time.right_time(ca_date, run.now, guards.clock_may_stop_until(run))
    if time is not None and time != run.now:
        run.tell(f"warning: {_off(ca_date, run.now)}; {GOING_BY_CA}")
        run.go_by(time)


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
    """Record per lineage and backend what people and the next run need to know."""
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
    # The live one, not the target: it is the live one that expires.
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

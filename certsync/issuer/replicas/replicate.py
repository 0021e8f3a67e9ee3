"""`certsync replicate`, on the issuer: stage on all, check on all, activate on all, prove all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certsync.issuer import steps
from certsync.issuer.guards import guards_end
from certsync.issuer.replicas import (
    admission,
    latecomers,
    outdated,
    outgoing,
    receivers,
    renumber,
    rollout,
)
from certsync.issuer.replicas.expected import expected
from certsync.issuer.replicas.rollout import Plan, Standing
from certsync.issuer.replicas.under_way import Rollout
from certsync.issuer.run import Run, Session
from certsync.issuer.situation import Situation, look_at_all
from certsync.issuer.steps import Step
from certsync.model.errors import (
    RolloutError,
    StoreError,
    VetoError,
)
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict
from certsync.system import proving
from certsync.system.patience import Patience

STILL_SERVED = "what was served before is still served"


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended."""

    number: int
    proofs: tuple[Proof, ...]
    pushed: tuple[str, ...]
    """Backends that the generation was sent to."""

    changed: tuple[str, ...]
    """Backends that activated it."""

    failures: Mapping[str, str]
    """Backends that do not serve it, and why."""

    mixed_seconds: float | None
    """The time from the first activation to the last proof, if more than one backend changed.

    For that long two generations were served side by side; None: they were not.
    """

    def error(self) -> RolloutError:
        """Return the error that names every failure."""
        reasons = "; ".join(f"{name}: {why}" for name, why in self.failures.items())
        serving = any(each.verdict is Verdict.IN_SYNC for each in self.proofs)
        others = "the others serve it; " if serving else ""
        return RolloutError(
            f"generation {number_text(self.number)} is not served by all backends: {reasons}",
            f"{others}run the same command again when this is fixed",
        )


def outlook(
    seen: Situation, now: datetime, proven: Callable[[], Sequence[Proof]] | None = None
) -> list[str]:
    """Return what to do, in words; every backend is asked, nothing is changed.

    ``proven`` returns fresh proofs; None: probe the backends now.

    Raises:
        StoreError: the roots cannot be read.
    """
    seen, returned = seen.without_returned()
    if seen.target is None:
        return []
    with receivers.connected(seen.fleet, seen.holders, end_seconds=0) as backends:
        standings = receivers.standings(seen.name, backends)
    served = proven() if proven else _proofs(seen, now)
    proofs = [each for each in served if each.name not in returned]
    plan = _plan(seen, standings, proofs)
    found = outdated.look(seen, plan, now)
    steps = [found.why] if found.why else plan.steps()
    if not steps:
        steps = [f"{each.name}: {each.why}" for each in proofs if each.why]
    return [*steps, *(f"{name}: {why}" for name, why in returned.items())]


def replicate_all(session: Session, missed: Collection[str] = ()) -> None:
    """Roll out each lineage's newest generation to every backend, and prove it.

    A lineage without a generation is skipped if another one has one.

    Raises:
        CertsyncError: as `replicate`; for several lineages all in one message.
    """

    def work(run: Run) -> None:
        if not run.seen.has_any and any(one.target for one in look_at_all(session.store)):
            run.tell("nothing to replicate: no generation has been issued yet")
        else:
            replicate(run, missed)

    session.each(work)


def replicate(run: Run, missed: Collection[str] = ()) -> None:
    """Roll out the newest generation to every backend, and prove it.

    ``missed`` are backends that the calling run could not reach; their failures are tolerated.

    Raises:
        RolloutError: it may not go live, or a backend does not serve it; each is named.
        StoreError: nothing has been issued, or the store cannot be read.
    """
    outcome = roll_out(run)
    if not set(outcome.failures) <= set(missed):
        raise outcome.error()
    others = f" except {', '.join(outcome.failures)}" if outcome.failures else ""
    number, count = number_text(outcome.number), len(outcome.proofs)
    run.tell(f"generation {number} is served by all {count} backends{others}")


def roll_out(run: Run) -> Outcome:
    """Roll out the newest generation to every backend, and return what each one serves then.

    A backend that may hold compromised keys and came back to the fleet before they were replaced
    gets nothing, but does not hold back the others.

    Raises:
        FencedError: a replica refuses the push key; nothing was sent to any other.
        VetoError: it may not go live; an OutdatedError if something newer is served.
        StoreError: nothing has been issued, or the store cannot be read.
    """
    _forget_done_marks(run)
    seen, returned = run.seen.without_returned()
    if seen.target is None:
        raise StoreError(_why_none(seen), "run `certsync issue` first")
    with receivers.connected(seen.fleet, seen.holders, clock_off=run.clock_off) as backends:
        served = _proofs(seen, run.now, run.patience)
        standings = receivers.standings(seen.name, backends, run.patience)
        left_out = admission.check_not_fenced(run, standings)
        renumber.if_used_otherwise(run, standings, served)
        seen, _returned = run.seen.without_returned()
        plan = outdated.refuse(run, _plan(seen, standings, served))
        way = Rollout(seen.name, plan, backends, run.tell, patience=run.patience)
        left_out |= _activated(run, way, seen)
        seen, _returned = run.look_again().without_returned()
        proofs = steps.take(Step.PROVE, lambda: _proven_patiently(seen, run.now))
        behind = any(each.verdict in (Verdict.BEHIND, Verdict.WRONG) for each in proofs)
        mixed = None if behind else way.mixed_seconds()
    if mixed is not None:
        run.tell(f"two generations were served side by side for {mixed:.1f} s")
    if way.changed:
        what = f"activated generation {number_text(plan.number)}"
        run.did(f"{what} on {', '.join(way.changed)}")
    refused = {name: each.why for name, each in way.refused.items()}
    reasons = {name: why for name, why in plan.unreached.items() if name not in way.caught_up}
    reasons |= {**way.unreached, **refused, **left_out, **returned}
    pushed, changed = tuple(way.pushed), tuple(way.changed)
    failures = _failures(proofs, reasons)
    return Outcome(plan.number, tuple(proofs), pushed, changed, failures, mixed)


def _activated(run: Run, way: Rollout, seen: Situation) -> dict[str, str]:
    """Carry out a plan; return the replicas left out because they refuse the push key."""
    number = way.plan.number
    files = seen.store.files(seen.name, number)
    try:
        with outgoing.outbox(files, number_text(number)) as outbox:
            left_out = _carry_out(run, way, seen, outbox)
            latecomers.catch_up(run, way, outbox)
            return left_out
    except VetoError:
        _bar_what_the_issuer_refuses(way, seen)
        run.look_again()
        raise


def _forget_done_marks(run: Run) -> None:
    """Forget a finished compromise once a backend of that name is back in the fleet.

    It may hold keys from here on, and be removed a second time.
    """
    marks = run.seen.marks
    left = marks.without([each.name for each in run.seen.fleet.backends])
    if left != marks:
        run.seen.store.mark_compromised(run.name, left)
        run.look_again()


def _why_none(seen: Situation) -> str:
    why = seen.marks.why(seen.current) if seen.current else ""
    if not why and seen.refused:
        number = max(seen.refused)
        why = f"generation {number_text(number)} is refused by the issuer: {seen.refused[number]}"
    return why or "no generation has been issued yet"


def _carry_out(run: Run, way: Rollout, seen: Situation, outbox: Path) -> dict[str, str]:
    """Stage on all, check on all; then, unless vetoed, activate on all.

    Return the replicas that refused the push key meanwhile, and why they are left out.
    """
    issuer, number, now = seen.fleet.issuer_name, way.plan.number, run.now
    end = guards_end(run)
    for name, why in way.plan.unreached.items():
        way.tell(f"{name}: not reached: {why}")
    steps.take(Step.STAGE, lambda: way.push(outbox))
    steps.take(Step.CHECK, lambda: way.ask("check", way.among(way.plan.activate)))
    accepting = [each.name for each in way.among(way.plan.names) if not each.local]
    left_out = admission.leave_out(run, way.refusing, accepting)
    reached = len(way.backends) - len(way.plan.unreached) - len(way.unreached)
    if why := rollout.veto(issuer, reached, way.refused.values(), now, end):
        text = f"generation {number_text(number)} was not activated anywhere: {why}"
        raise VetoError(text, STILL_SERVED)
    # The issuer first: the others are compared with its live link.
    ready = way.among(way.plan.activate)
    here, there = [[each for each in ready if each.local is local] for local in (True, False)]
    steps.take(Step.ACTIVATE_ISSUER, lambda: way.activate(here))
    if issuer in way.refused and (end is None or now < end):
        raise VetoError(
            f"{issuer}, the issuer, cannot activate generation {number_text(number)}: "
            f"{way.refused[issuer].why}",
            STILL_SERVED,
        )
    steps.take(Step.ACTIVATE_REPLICAS, lambda: way.activate(there))
    return left_out


def _bar_what_the_issuer_refuses(way: Rollout, seen: Situation) -> None:
    """Do not let a generation that can never go live prevent an order."""
    own = way.refused.get(seen.fleet.issuer_name)
    if own is not None and own.of_content:
        seen.store.refuse(seen.name, way.plan.number, own.why)


def _plan(seen: Situation, standings: Sequence[Standing], served: Sequence[Proof]) -> Plan:
    """Return the plan for the newest generation; ``served`` is what the backends serve."""
    number = seen.target or 0
    not_serving: list[str] = []
    if seen.current == number:
        passing = (Verdict.BEHIND, Verdict.WRONG)
        not_serving = [each.name for each in served if each.verdict in passing]
    manifest_sum = seen.kept[number].manifest_sum
    return rollout.plan(number, manifest_sum, standings, seen.fleet.issuer_name, not_serving)


def _proofs(seen: Situation, now: datetime, patience: Patience | None = None) -> list[Proof]:
    return proving.prove(seen.holders, seen.name, expected(seen), now, patience)


def _proven_patiently(seen: Situation, now: datetime) -> list[Proof]:
    return proving.prove_patiently(seen.holders, seen.name, expected(seen), now)


def _failures(proofs: Sequence[Proof], reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the backends that do not serve the generation or did not get it, and why."""
    found = dict(reasons)
    for proof in proofs:
        if proof.verdict is not Verdict.IN_SYNC:
            found.setdefault(proof.name, proof.why)
    return dict(sorted(found.items()))

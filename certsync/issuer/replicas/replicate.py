"""`certsync replicate`, on the issuer: stage on all, check on all, activate on all, prove all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from certsync.issuer import steps
from certsync.issuer.compromise import RETURNED
from certsync.issuer.replicas import admission, outdated, outgoing, receivers, rollout
from certsync.issuer.replicas.expected import expected
from certsync.issuer.replicas.rollout import Plan, Standing
from certsync.issuer.replicas.under_way import Rollout
from certsync.issuer.schedule import last_chance
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.errors import (
    RolloutError,
    StoreError,
    VetoError,
)
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict
from certsync.programs import receiver
from certsync.system import proving

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What replicating would do now."""

    fleet: Fleet
    steps: list[str]
    """What is not as it should be, in words; empty: nothing to do."""


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended."""

    number: int
    proofs: tuple[Proof, ...]
    pushed: tuple[str, ...]
    """Backends that the generation was sent to."""

    changed: tuple[str, ...]
    """Backends that made it live."""

    failures: Mapping[str, str]
    """Backends that do not serve it, and why."""

    mixed_seconds: float | None
    """From the first activation asked for to the last proof, if more than one backend changed.

    For that long two generations were served side by side; None: they were not.
    """

    def error(self) -> RolloutError:
        """Return the error that names every failure."""
        told = "; ".join(f"{name}: {why}" for name, why in self.failures.items())
        serving = any(each.verdict is Verdict.IN_SYNC for each in self.proofs)
        others = "the others serve it; " if serving else ""
        return RolloutError(
            f"generation {number_text(self.number)} is not served by all backends: {told}",
            f"{others}run the same command again when this is fixed",
        )


def outlook(
    store: Store, now: datetime, proven: Callable[[], Sequence[Proof]] | None = None
) -> Outlook:
    """Return what is to be done, asking every backend and changing nothing.

    ``proven`` gives what backends have been seen to serve just now; None: they are looked at.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet, returned = _without_returned(store)
    number = store.target(fleet.lineage)
    if number is None:
        return Outlook(fleet, [])
    with receivers.connected(fleet, end_seconds=0) as backends:
        standings = receivers.standings(fleet.lineage, backends)
    seen = proven() if proven else _proofs(fleet, store, now, patiently=False)
    proofs = [each for each in seen if each.name not in returned]
    plan = _plan(fleet, store, number, standings, proofs)
    found = outdated.look(fleet, store, plan, now)
    steps = [found.why] if found.why else plan.steps()
    if not steps:
        steps = [f"{each.name}: {each.why}" for each in proofs if each.why]
    return Outlook(fleet, [*steps, *(f"{name}: {why}" for name, why in returned.items())])


def replicate(store: Store, now: datetime, tell: Tell, missed: Collection[str] = ()) -> Outcome:
    """Bring the newest generation to every backend, proven.

    ``missed`` are backends that the run which has started this does not reach, and knows of.

    Raises:
        RolloutError: it may not go live, or a backend does not serve it; each is named.
        StoreError: nothing has been issued, or the store cannot be read.
    """
    outcome = roll_out(store, now, tell)
    if not set(outcome.failures) <= set(missed):
        raise outcome.error()
    others = f" but {', '.join(outcome.failures)}" if outcome.failures else ""
    number, count = number_text(outcome.number), len(outcome.proofs)
    tell(f"generation {number} is served by all {count} backends{others}")
    return outcome


def is_one_of_several_without_any(store: Store) -> bool:
    """Return whether this lineage has nothing to replicate, and another one of the fleet has.

    One that serves what it should no longer serve is not among those.
    """
    if store.target(store.lineage) is not None or store.current(store.lineage):
        return False
    others = replace(store, lineage="").lineages()
    return any(one.target(one.lineage) is not None for one in others)


def roll_out(store: Store, now: datetime, tell: Tell) -> Outcome:
    """Bring the newest generation to every backend, and return what each one serves then.

    One that may hold compromised keys, and is in the fleet again before these are replaced, gets
    nothing, and holds back no other.

    Raises:
        FencedError: a replica refuses the push key; nothing was sent to any other.
        VetoError: it may not go live; an OutdatedError if something newer is served.
        StoreError: nothing has been issued, or the store cannot be read.
    """
    _forget_done_marks(store.fleet(), store)
    fleet, returned = _without_returned(store)
    number = store.target(fleet.lineage)
    if number is None:
        raise StoreError(_why_none(fleet, store), "run `certsync issue` first")
    files = store.files(fleet.lineage, number)
    name = number_text(number)
    with outgoing.outbox(files, name) as outbox, receivers.connected(fleet) as backends:
        seen = _proofs(fleet, store, now, patiently=False)
        standings = receivers.standings(fleet.lineage, backends)
        plan = _plan(fleet, store, number, standings, seen)
        left_out = admission.check_not_fenced(store, fleet, plan.standings, now)
        outdated.refuse(fleet, store, plan, now, tell)
        run = Rollout(fleet, plan, backends, tell)
        end = last_chance(store.live_manifest(fleet.lineage))
        try:
            left_out |= _carry_out(run, store, outbox, now, end)
        except VetoError:
            _bar_what_the_issuer_refuses(run, store)
            raise
        proofs = steps.take(Step.PROVE, lambda: _proofs(fleet, store, now, patiently=True))
        behind = any(each.verdict in (Verdict.BEHIND, Verdict.WRONG) for each in proofs)
        mixed = None if behind else run.mixed_seconds()
    if mixed is not None:
        tell(f"two generations were served side by side for {mixed:.1f} s")
    refused = {name: each.why for name, each in run.refused.items()}
    reasons = {**plan.unreached, **run.unreached, **refused, **left_out, **returned}
    failures = _failures(proofs, reasons)
    return Outcome(number, tuple(proofs), tuple(run.pushed), tuple(run.changed), failures, mixed)


def _forget_done_marks(fleet: Fleet, store: Store) -> None:
    """Forget a compromise that is over once a backend of that name is in the fleet again.

    It may hold a key from here on, and be taken out for a second time.
    """
    marks = store.compromised(fleet.lineage)
    left = marks.without([each.name for each in fleet.backends])
    if left != marks:
        store.mark_compromised(fleet.lineage, left)


def _without_returned(store: Store) -> tuple[Fleet, dict[str, str]]:
    """Return the fleet without whom no key is to reach, and why not."""
    fleet = store.fleet()
    names = store.compromised(fleet.lineage).returned(fleet)
    kept = tuple(each for each in fleet.backends if each.name not in names)
    return replace(fleet, backends=kept), {name: RETURNED.format(name) for name in names}


def _why_none(fleet: Fleet, store: Store) -> str:
    live = store.current(fleet.lineage)
    why = store.compromised(fleet.lineage).why(live) if live else ""
    refused = store.refused(fleet.lineage)
    if not why and refused:
        number = max(refused)
        why = f"generation {number_text(number)} is refused by the issuer: {refused[number]}"
    return why or "no generation has been issued yet"


def _carry_out(
    run: Rollout, store: Store, outbox: Path, now: datetime, end: datetime | None
) -> dict[str, str]:
    """Stage on all and check on all; then, unless there is a veto, activate on all.

    ``end`` is when a veto ends. Return the replicas that have refused the push key meanwhile, and
    why they are left out.
    """
    issuer, number = run.fleet.issuer_name, run.plan.number
    for name, why in run.plan.unreached.items():
        run.tell(f"{name}: not reached: {why}")
    steps.take(Step.STAGE, lambda: run.push(outbox))
    steps.take(Step.CHECK, lambda: run.ask("check", run.among(run.plan.activate)))
    accepting = [each.name for each in run.among(run.plan.names) if not each.local]
    left_out = admission.leave_out(store, run.fleet, run.refusing, accepting, now)
    reached = len(run.backends) - len(run.plan.unreached) - len(run.unreached)
    if why := rollout.veto(issuer, reached, run.refused.values(), now, end):
        raise VetoError(
            f"generation {number_text(number)} is activated nowhere: {why}",
            "what was served before goes on being served",
        )
    # The issuer first: what its link points to is what all others are measured by.
    ready = run.among(run.plan.activate)
    here, there = [[each for each in ready if each.local is local] for local in (True, False)]
    steps.take(Step.ACTIVATE_ISSUER, lambda: run.activate(here))
    if issuer in run.refused and (end is None or now < end):
        raise VetoError(
            f"{issuer}, the issuer, cannot activate generation {number_text(number)}: "
            f"{run.refused[issuer].why}",
            "what was served before goes on being served",
        )
    steps.take(Step.ACTIVATE_REPLICAS, lambda: run.activate(there))
    return left_out


def _bar_what_the_issuer_refuses(run: Rollout, store: Store) -> None:
    """Have a generation that can never go live keep no order from being made."""
    own = run.refused.get(run.fleet.issuer_name)
    if own is not None and own.of_content:
        store.refuse(run.fleet.lineage, run.plan.number, own.why)


def _plan(
    fleet: Fleet, store: Store, number: int, standings: Sequence[Standing], seen: Sequence[Proof]
) -> Plan:
    """Return the plan for a generation; ``seen`` is what the backends serve."""
    not_serving: list[str] = []
    if store.current(fleet.lineage) == number:
        passing = (Verdict.BEHIND, Verdict.WRONG)
        not_serving = [each.name for each in seen if each.verdict in passing]
    manifest = store.files(fleet.lineage, number)[receiver.MANIFEST]
    manifest_sum = hashlib.sha256(manifest).hexdigest()
    return rollout.plan(number, manifest_sum, standings, fleet.issuer_name, not_serving)


def _proofs(fleet: Fleet, store: Store, now: datetime, *, patiently: bool) -> list[Proof]:
    wanted = expected(fleet, store)
    if not patiently:
        return proving.prove(fleet.holders, fleet, wanted, now)
    return proving.prove_patiently(fleet.holders, fleet, wanted, now)


def _failures(proofs: Sequence[Proof], reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the backends that do not serve the generation, or could not be given it, and why."""
    found = dict(reasons)
    for proof in proofs:
        if proof.verdict is not Verdict.IN_SYNC:
            found.setdefault(proof.name, proof.why)
    return dict(sorted(found.items()))

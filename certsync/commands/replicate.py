"""`certsync replicate`, on the issuer: stage on all, check on all, activate on all, prove all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from certsync import proving, receiver, replication, rollout
from certsync.errors import HostError, RolloutError, StoreError, UnreachableError
from certsync.fleet import Fleet
from certsync.generation import number_text, target
from certsync.proof import Proof, Verdict
from certsync.replication import Answer, Backend
from certsync.rollout import Plan
from certsync.store import Store

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What replicating would do now."""

    fleet: Fleet
    steps: list[str]
    """What is not as it should be, in words; empty: nothing to do."""


@dataclass
class Rollout:
    """One run's way through a plan, with the backends that fell behind on it."""

    fleet: Fleet
    plan: Plan
    backends: Sequence[Backend]
    tell: Tell
    unreached: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def among(self, names: Sequence[str]) -> list[Backend]:
        """Return those of the backends that are still on the way."""
        lost = {**self.unreached, **self.refused}
        return [each for each in self.backends if each.name in names and each.name not in lost]

    def ask(self, verb: str, among: Sequence[Backend]) -> None:
        """Ask the receivers to do something, and note who could not."""
        lineage, number = self.fleet.lineage, self.plan.number
        answers = replication.each(lambda one: one.ask(verb, lineage, number), among)
        for backend, answer in answers:
            self.note(backend, answer)

    def push(self, outbox: Path) -> None:
        """Send the generation to those that lack it."""
        for backend, error in replication.each(
            lambda one: one.push(outbox), self.among(self.plan.push)
        ):
            if error is None:
                self.tell(f"{backend.name}: received generation {number_text(self.plan.number)}")
            else:
                self.note(backend, error)

    def note(self, backend: Backend, answer: Answer | HostError) -> None:
        """Note a backend that cannot be reached, which has no vote, or that refuses."""
        if isinstance(answer, HostError):
            why = answer.message.removeprefix(f"{backend.name}: ")
            lost = isinstance(answer, UnreachableError)
            (self.unreached if lost else self.refused)[backend.name] = why
        elif not answer["ok"]:
            why = self.refused[backend.name] = str(answer.get("why"))
        else:
            return
        self.tell(f"{backend.name}: {why}")


def outlook(store: Store, now: datetime) -> Outlook:
    """Return what is to be done, asking every backend and changing nothing.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    number = _target(fleet, store)
    if number is None:
        return Outlook(fleet, [])
    backends = replication.backends(fleet)
    replication.open_runtime()
    plan = _plan(fleet, store, number, backends, now)
    replication.each(Backend.hang_up, backends)
    steps = plan.steps()
    if not steps:
        proofs = _proofs(fleet, store, now, patiently=False)
        steps = [f"{each.name}: {each.why}" for each in proofs if each.why]
    return Outlook(fleet, steps)


def replicate(store: Store, now: datetime, tell: Tell) -> list[Proof]:
    """Bring the newest generation to every backend, and return the proof that each serves it.

    Raises:
        RolloutError: it may not go live, or a backend does not serve it; each is named.
        StoreError: nothing has been issued, or the store cannot be read.
    """
    fleet = store.fleet()
    number = _target(fleet, store)
    if number is None:
        raise StoreError("no generation has been issued yet", "run `certsync issue` first")
    backends = replication.backends(fleet)
    with replication.outbox(store.files(fleet.lineage, number), number) as outbox:
        plan = _plan(fleet, store, number, backends, now)
        rollout_run = Rollout(fleet, plan, backends, tell)
        try:
            _carry_out(rollout_run, outbox)
        finally:
            replication.each(Backend.hang_up, backends)
    proofs = _proofs(fleet, store, now, patiently=True)
    reasons = {**plan.unreached, **rollout_run.unreached, **rollout_run.refused}
    _raise_unless_good(number, proofs, reasons)
    tell(f"generation {number_text(number)} is served by all {len(proofs)} backends")
    return proofs


def _carry_out(run: Rollout, outbox: Path) -> None:
    """Stage on all and check on all; then, unless there is a veto, activate on all."""
    issuer, number = run.fleet.issuer_name, run.plan.number
    for name, why in run.plan.unreached.items():
        run.tell(f"{name}: not reached: {why}")
    run.push(outbox)
    run.ask("check", run.among(run.plan.activate))
    reached = len(run.backends) - len(run.plan.unreached) - len(run.unreached)
    if why := rollout.veto(issuer, reached, run.refused):
        raise RolloutError(
            f"generation {number_text(number)} is activated nowhere: {why}",
            "what was served before goes on being served",
        )
    # The issuer first: what its link points to is what all others are measured by.
    ready = run.among(run.plan.activate)
    run.ask("activate", [each for each in ready if each.local])
    if issuer in run.refused:
        raise RolloutError(
            f"{issuer}, the issuer, cannot activate generation {number_text(number)}: "
            f"{run.refused[issuer]}",
            "what was served before goes on being served",
        )
    run.ask("activate", [each for each in ready if not each.local])


def _target(fleet: Fleet, store: Store) -> int | None:
    lineage = fleet.lineage
    return target(store.manifests(lineage), store.withdrawn(lineage), store.current(lineage))


def _plan(
    fleet: Fleet, store: Store, number: int, backends: Sequence[Backend], now: datetime
) -> Plan:
    found = replication.each(lambda one: one.standing(fleet.lineage), backends)
    standings = [
        each if isinstance(each, rollout.Standing) else backend.unheard(each)
        for backend, each in found
    ]
    not_serving: list[str] = []
    if store.current(fleet.lineage) == number:
        seen = _proofs(fleet, store, now, patiently=False)
        passing = (Verdict.BEHIND, Verdict.WRONG)
        not_serving = [each.name for each in seen if each.verdict in passing]
    manifest = store.files(fleet.lineage, number)[receiver.MANIFEST]
    manifest_sum = hashlib.sha256(manifest).hexdigest()
    return rollout.plan(number, manifest_sum, standings, fleet.issuer_name, not_serving)


def _proofs(fleet: Fleet, store: Store, now: datetime, *, patiently: bool) -> list[Proof]:
    wanted = proving.expected(fleet, store)
    if not patiently:
        return proving.prove(fleet.backends, fleet, wanted, now)
    proofs = proving.prove_patiently(fleet.backends, fleet, wanted, now)
    proving.save(store, wanted, proofs, now)
    return proofs


def _raise_unless_good(number: int, proofs: Sequence[Proof], reasons: Mapping[str, str]) -> None:
    found = dict(reasons)
    for proof in proofs:
        if proof.verdict is not Verdict.IN_SYNC:
            found.setdefault(proof.name, proof.why)
    if found:
        told = "; ".join(f"{name}: {why}" for name, why in sorted(found.items()))
        raise RolloutError(
            f"generation {number_text(number)} is not served by all backends: {told}",
            "the others serve it; run the same command again when this is mended",
        )

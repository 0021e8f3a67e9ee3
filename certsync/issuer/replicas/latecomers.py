"""Replicas that were slow in a rollout: they get the generation once the others have it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from certsync.issuer import identity
from certsync.issuer.replicas import admission, fence, receivers, rollout
from certsync.issuer.replicas.backend import RECEIVE_SECONDS, Backend
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.replicas.under_way import Rollout
from certsync.issuer.run import Run

NEXT_RUN = "it was slow, and says that it has something newer: the next run looks at it"


def catch_up(run: Run, way: Rollout, outbox: Path) -> None:
    """Bring the generation to the replicas that the others did not wait for.

    Raises:
        BrokenStateError: the record of who accepted the push key cannot be read.
    """
    late = _that_answer_again(run, way)
    if not late:
        return
    way.tell(f"{', '.join(each.name for each in late)}: slow, so updated after the others")
    standings = receivers.standings(way.lineage, late)
    issuer, known = run.seen.fleet.issuer_name, {each.name for each in standings}
    others = [each for each in way.plan.standings if each.name not in {issuer, *known}]
    later = fence.later_than(identity.epoch_of(run.seen.store), standings)
    admission.note(run, [*others, *standings], later)
    fit = _fit(way, standings, later)
    generation = run.seen.kept[way.plan.number]
    plan = rollout.plan(way.plan.number, generation.manifest_sum, fit, issuer, ())
    again = Rollout(way.lineage, plan, late, way.tell)
    again.push(outbox)
    again.ask("check", again.among(plan.activate))
    again.activate(again.among(plan.activate))
    way.take_over(again)


def _that_answer_again(run: Run, way: Rollout) -> list[Backend]:
    """Return the late replicas whose last question has ended, waiting for that once for all."""
    end = time.monotonic() + RECEIVE_SECONDS
    late = [each for each in way.backends if each.name in run.patience.late]
    return [each for each in late if run.patience.settle(each.name, max(0, end - time.monotonic()))]


def _fit(way: Rollout, standings: Sequence[Standing], later: Collection[str]) -> list[Standing]:
    """Return the standings of those that may get it; the others are recorded with the reason."""
    plan = rollout.plan(way.plan.number, "", standings, "", ())
    doubtful = {*rollout.claiming_newer(plan), *later}
    for name in doubtful:
        way.unreached[name] = NEXT_RUN
    return [each for each in standings if each.name not in doubtful]

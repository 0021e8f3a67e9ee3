"""Mends that can be taken out, one at a time, to see whether the simulation finds the fault."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from certsync.issuer import broken_records, guards, identity, schedule
from certsync.issuer.backoff import Tries
from certsync.issuer.ca import before_order, crl
from certsync.issuer.commands import rollback
from certsync.issuer.replicas import admission, fence, outdated, replicate, rollout
from certsync.issuer.run import Run
from certsync.programs import receiver

Place = tuple[Any, str, Any]


def _all_claims(_own: int, claims: Any) -> set[int]:
    return {number for each in claims for number in each}


def _next_free(own: int, claimed: set[int]) -> int:
    return max({own, *claimed}) + 1


def _refusals_count_all(issuer: str, reached: int, refusals: Any, _now: Any, _end: Any) -> str:
    own = [each for each in refusals if each.backend == issuer]
    return "it is refused" if own or len(refusals) * 2 > reached >= 3 else ""


def _needs_a_live_link(folder: Any, name: str) -> None:
    if not receiver.live(name).is_dir():
        raise receiver.Refused(f"{receiver.live(name)} does not exist: deploy again")
    receiver.SERVER.test(folder, receiver.live(name).resolve(strict=True))


def _by_half(run: Run, ca_time: Any) -> None:
    run.now = ca_time


def _same_day(tries: Tries, now: Any, _end: Any = None) -> Any:
    waits = [tries.last + timedelta(minutes=100)] if tries.last and tries.last <= now else []
    return max(waits, default=now)


MUTATIONS: Mapping[str, tuple[Place, ...]] = {
    "a veto has no end": ((rollout, "veto", _refusals_count_all),),
    "guards do not end where the live certificate is revoked or soon expires": (
        (guards, "guards_end", lambda _run: None), (replicate, "guards_end", lambda _run: None),
    ),
    "a broken record stops every run": (
        (broken_records, "run_on", lambda session, *rest: session.run(*rest)),
        (admission, "_remembered", lambda run, _: run.seen.store.fence(run.name)),
    ),
    "one refused push key fences for ever": ((fence, "is_exception", lambda *_, **__: False),),
    "a replica's claims use up the numbers": (
        (before_order, "believed", _all_claims), (before_order, "next_free", _next_free),
    ),
    "a copy of the issuer acts": ((identity, "require_original", lambda *_: None),),
    "an older certificate goes live over a newer one": (
        (outdated, "refuse", lambda _run, plan: plan),
    ),
    "a lost live link refuses every certificate": ((receiver, "try_server", _needs_a_live_link),),
    "a failed order is repeated on the same day": ((Tries, "next", _same_day),),
    "a run that goes by the CA's clock leaves its receiver to the machine's": (
        (Run, "go_by", _by_half),
    ),
    "what lags behind does not end a wait for the clock": (
        (guards, "clock_may_stop_until", guards.end_by_all_that_is_known),
    ),
    "a rollback goes by any clock": ((rollback, "_refuse_a_wrong_clock", lambda _run: None),),
    "nobody hears of a revocation": (
        (crl, "wants_it_replaced", lambda *_: ""), (crl, "by_list", lambda *_: crl.Finding()),
        (schedule, "_suggested", lambda *_: None),
    ),
}  # fmt: skip
"""What is taken out, and what stands in its place."""

FOUND_AT = {
    "guards do not end where the live certificate is revoked or soon expires": 2,
    "a replica's claims use up the numbers": 17,
    "a copy of the issuer acts": 2,
    "an older certificate goes live over a newer one": 4,
    "what lags behind does not end a wait for the clock": 34,
    "a rollback goes by any clock": 32,
}
"""The seeds of fleets in which this has shown before, where that is not the first one."""

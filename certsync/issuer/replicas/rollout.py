"""Decisions of a rollout: which backend gets what, and whether a generation may go live. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from certsync.model.epoch import Epoch
from certsync.model.generation import Manifest, number_text
from certsync.model.proof import Proof, Verdict
from certsync.programs import receiver


@dataclass(frozen=True)
class Standing:
    """What a backend says it has."""

    name: str
    reached: bool
    current: str = ""
    """The number its live link points to, four digits; empty: none reported."""

    generations: Mapping[str, str] = field(default_factory=dict)
    """Its intact generations: number, four digits, to the manifest's SHA-256."""

    why: str = ""
    """Why it was not reached."""

    refuses_key: bool = False
    """Whether it answers, but refuses the issuer's push key."""

    epoch: Epoch | None = None
    """That of the issuer whose push key it accepts, as it says; None: it does not say."""


@dataclass(frozen=True)
class Refusal:
    """A backend's refusal of a generation."""

    backend: str
    why: str
    of_content: bool = False
    """Whether its receiver says that the generation is the reason, not the host."""


@dataclass(frozen=True)
class Plan:
    """What to do so that one generation is live everywhere."""

    number: int
    push: tuple[str, ...]
    """Backends that lack it or have a damaged copy."""

    activate: tuple[str, ...]
    """Backends whose live link does not point to it, or that do not serve it although it does."""

    unreached: Mapping[str, str]
    """Backends that cannot be asked, and why."""

    standings: tuple[Standing, ...] = ()
    """What the plan is based on."""

    @property
    def names(self) -> tuple[str, ...]:
        """The backends that can be asked."""
        return tuple(each.name for each in self.standings if each.reached)

    def steps(self) -> list[str]:
        """Return what to do, in words; empty: nothing."""
        generation = number_text(self.number)
        steps = [f"{name}: not reached: {why}" for name, why in self.unreached.items()]
        steps += [f"{name}: push generation {generation}" for name in self.push]
        return steps + [f"{name}: activate generation {generation}" for name in self.activate]


def plan(
    number: int,
    manifest_sum: str,
    standings: Sequence[Standing],
    issuer: str,
    not_serving: Collection[str],
) -> Plan:
    """Return what to do.

    ``manifest_sum`` is the SHA-256 of the generation's manifest on the issuer; ``not_serving`` are
    the backends that serve something else.
    """
    generation = number_text(number)
    reached = [each for each in standings if each.reached]
    push = tuple(
        each.name
        for each in reached
        if each.name != issuer and each.generations.get(generation) != manifest_sum
    )
    activate = tuple(
        each.name
        for each in reached
        if each.current != generation or each.name in push or each.name in not_serving
    )
    unreached = {each.name: each.why for each in standings if not each.reached}
    return Plan(number, push, activate, unreached, tuple(standings))


def claims(standing: Standing) -> set[int]:
    """Return the generation numbers that a backend says it has used."""
    return {int(each) for each in standing.generations if receiver.NUMBER.fullmatch(str(each))}


def claiming_newer(plan: Plan) -> tuple[str, ...]:
    """Return the backends that claim a newer live generation than the plan's."""
    return tuple(
        each.name
        for each in plan.standings
        if each.current in each.generations and int(each.current) > plan.number
    )


def serving_newer(generation: Manifest, proofs: Iterable[Proof], now: datetime) -> tuple[str, ...]:
    """Return the backends that serve something newer than a generation.

    A number alone is no evidence, because a replica may claim any. A certificate is, if clients
    trust it, the issuer does not have it, and it was issued later. So the next order resolves this.
    One that is not valid yet counts, too: our clock may be behind.
    """
    return tuple(
        each.name
        for each in proofs
        if each.verdict in (Verdict.BEHIND, Verdict.WRONG)
        and not each.generation
        and each.not_before is not None
        and each.not_before > generation.not_before
        and (each.leaf_ends is None or now < each.leaf_ends)
    )


def veto(
    issuer: str, reached: int, refusals: Collection[Refusal], now: datetime, end: datetime | None
) -> str:
    """Return why nothing may be activated; empty: it may.

    ``reached`` counts the backends that could be asked. ``end`` is when vetoes end, before the live
    certificate expires; None: nothing is live.

    A generation is stopped only by the issuer's own refusal, or by more than half of at least three
    reached backends, and the latter only because of its content: a full disk or a wrong clock says
    nothing about a certificate. Unreachable backends have no vote. After ``end`` the replicas
    continue without the issuer if one of them accepts it; if none does, it is still refused, so
    that it is barred and another one is ordered.
    """
    own = next((each for each in refusals if each.backend == issuer), None)
    taken = reached > len(refusals)
    if own is not None and (end is None or now < end or (own.of_content and not taken)):
        return f"{issuer}, the issuer, refuses it: {own.why}"
    unfit = sorted((each.backend, each.why) for each in refusals if each.of_content)
    if reached >= 3 and len(unfit) * 2 > reached and end is not None and now < end:
        reasons = "; ".join(f"{name}: {why}" for name, why in unfit)
        return f"{len(unfit)} of {reached} backends refuse it: {reasons}"
    return ""

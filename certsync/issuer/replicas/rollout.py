"""Who gets what, and whether a generation may go live: pure decisions of a rollout."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from certsync.model.generation import Manifest, number_text
from certsync.model.proof import Proof, Verdict


@dataclass(frozen=True)
class Standing:
    """What a backend says it has."""

    name: str
    reached: bool
    current: str = ""
    """The number its live link points to, four digits; empty: it says none."""

    generations: Mapping[str, str] = field(default_factory=dict)
    """Number, four digits, to SHA-256 of the manifest, of each generation that is whole."""

    why: str = ""
    """Why it was not reached."""

    refuses_key: bool = False
    """Whether it is there, and does not let the issuer's push key in."""


@dataclass(frozen=True)
class Refusal:
    """That a backend does not take a generation."""

    backend: str
    why: str
    of_content: bool = False
    """Whether its receiver says that the generation is the reason, and not the host."""


@dataclass(frozen=True)
class Plan:
    """What has to be done so that one generation is live everywhere."""

    number: int
    push: tuple[str, ...]
    """Backends that lack it, or whose copy is damaged."""

    activate: tuple[str, ...]
    """Backends that do not use it, or do not serve it though their link says so."""

    unreached: Mapping[str, str]
    """Backends that cannot be asked, and why."""

    standings: tuple[Standing, ...] = ()
    """What it was made from."""

    @property
    def names(self) -> tuple[str, ...]:
        """The backends that can be asked."""
        return tuple(each.name for each in self.standings if each.reached)

    def steps(self) -> list[str]:
        """Return what is to be done, in words; nothing: all is well."""
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
    """Return what is to be done.

    ``manifest_sum`` is the SHA-256 of the generation's manifest on the issuer; ``not_serving`` are
    the backends that were seen to serve something else.
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


def claiming_newer(plan: Plan) -> tuple[str, ...]:
    """Return the backends that say they have a newer generation live than the plan's."""
    return tuple(
        each.name
        for each in plan.standings
        if each.current in each.generations and int(each.current) > plan.number
    )


def serving_newer(generation: Manifest, proofs: Iterable[Proof]) -> tuple[str, ...]:
    """Return the backends that are seen to serve something newer than a generation.

    A number alone is no evidence, because a replica may claim any. A certificate is: one that
    clients trust, that is none of the issuer's, and that was issued later. So the next order
    ends this.
    """
    return tuple(
        each.name
        for each in proofs
        if each.verdict is Verdict.BEHIND
        and not each.generation
        and each.not_before is not None
        and each.not_before > generation.not_before
    )


def veto(
    issuer: str, reached: int, refusals: Collection[Refusal], now: datetime, end: datetime | None
) -> str:
    """Return why nothing may be activated; empty: go on.

    ``reached`` counts the backends that could be asked. ``end`` is when a veto ends, before what is
    live expires; None: nothing is live.

    Only the issuer's own refusal, or that of more than half of three or more backends reached,
    stops a generation, and the latter for what the generation is: a full disk or a wrong clock says
    nothing about a certificate. A backend that cannot be reached has no vote. After ``end`` the
    replicas go on without the issuer if one of them takes it; if none does, it is refused still,
    so that it is barred and another one is ordered.
    """
    own = next((each for each in refusals if each.backend == issuer), None)
    taken = reached > len(refusals)
    if own is not None and (end is None or now < end or (own.of_content and not taken)):
        return f"{issuer}, the issuer, refuses it: {own.why}"
    unfit = sorted((each.backend, each.why) for each in refusals if each.of_content)
    if reached >= 3 and len(unfit) * 2 > reached and end is not None and now < end:
        told = "; ".join(f"{name}: {why}" for name, why in unfit)
        return f"{len(unfit)} of {reached} backends refuse it: {told}"
    return ""

"""Who gets what, and whether a generation may go live: pure decisions of a rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from certsync.generation import number_text


@dataclass(frozen=True)
class Standing:
    """What a backend says it has."""

    name: str
    reached: bool
    current: str = ""
    """The number its live link points to."""

    generations: Mapping[str, str] = field(default_factory=dict)
    """Number to SHA-256 of the manifest, of each generation that is whole."""

    why: str = ""
    """Why it was not reached."""


@dataclass(frozen=True)
class Refusal:
    """A backend that was reached and did not accept the generation."""

    name: str
    why: str


def must_push(standing: Standing, number: int, manifest_sum: str) -> bool:
    """Return whether a backend lacks the generation, or holds another of the same number."""
    return standing.reached and standing.generations.get(number_text(number)) != manifest_sum


def must_activate(standing: Standing, number: int) -> bool:
    """Return whether a backend's live link points elsewhere."""
    return standing.reached and standing.current != number_text(number)


def veto(issuer: str, reached: Sequence[str], refused: Sequence[Refusal]) -> str:
    """Return why nothing may be activated; empty: go on.

    Only the issuer's own refusal, or more than half of three or more backends reached, stops a
    generation: one bad replica never holds back the others. Who cannot be reached has no vote.
    """
    by_name = {each.name: each.why for each in refused}
    if issuer in by_name:
        return f"{issuer}, the issuer, refuses it: {by_name[issuer]}"
    if len(reached) >= 3 and len(by_name) * 2 > len(reached):
        told = "; ".join(f"{name}: {why}" for name, why in sorted(by_name.items()))
        return f"{len(by_name)} of {len(reached)} backends refuse it: {told}"
    return ""

"""Whether a backend may become the issuer, judged by what the backends hold and serve. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from certsync.model.fleet import Fleet, Lineage
from certsync.model.proof import Proof, Verdict

NOTHING = ("", "0000")
"""Generations that are no certificate from the CA: none, and the placeholder."""


@dataclass(frozen=True)
class Holding:
    """What a backend holds and serves, as the operator's machine sees it."""

    generation: str
    """The number that its live link points to; empty: none."""

    fingerprint: str
    """SHA-256 of that generation's leaf, in hex."""

    served: str
    """SHA-256 of the leaf that it serves; empty: it was not seen to serve one."""


def is_ordered_anew(fleet: Fleet, lineage: Lineage, generation: str) -> bool:
    """Return whether the new issuer lacks a lineage's certificate because it does not serve it.

    ``generation`` is what its live link points to. Private keys are never moved, so it orders its
    own certificate; the backends that serve the lineage keep theirs until they get it.
    """
    return fleet.issuer not in fleet.members(lineage) and generation in NOTHING


def objection_of_proofs(name: str, proofs: Sequence[Proof]) -> str:
    """Return why a backend cannot become the issuer, by the issuer's proofs; empty: it can."""
    found = next((proof for proof in proofs if proof.name == name), None)
    if found is None:
        return "the issuer does not know it"
    return "" if found.verdict is Verdict.IN_SYNC else found.why


def objection_of_holdings(name: str, holdings: Mapping[str, Holding]) -> str:
    """Return why a backend cannot become the issuer while the old one is dead; empty: it can.

    The newest live generation that any reachable backend serves counts as current.
    """
    own = holdings.get(name)
    if own is None:
        return "it cannot be reached"
    if own.generation in NOTHING:
        return "it holds no generation"
    if not own.served:
        return f"it holds generation {own.generation}, but was not seen to serve anything"
    if own.served != own.fingerprint:
        return f"it holds generation {own.generation}, but serves something else"
    newer = {
        other: each.generation
        for other, each in holdings.items()
        if each.served == each.fingerprint and each.generation > own.generation
    }
    if newer:
        others = ", ".join(f"{other} serves {number}" for other, number in sorted(newer.items()))
        return f"it holds generation {own.generation}, but {others}"
    return ""

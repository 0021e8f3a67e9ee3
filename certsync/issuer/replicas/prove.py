"""`certsync prove`, on the issuer: probe every backend now, and report what each one serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.ca import due
from certsync.issuer.compromise import RETURNED
from certsync.issuer.memory import Memory
from certsync.issuer.replicas.expected import expected
from certsync.issuer.schedule import NextRenewal
from certsync.issuer.situation import Situation
from certsync.issuer.state import State
from certsync.model.answers import PROTOCOL
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict
from certsync.system import parallel, proving


@dataclass(frozen=True)
class OfLineage:
    """The proof of one lineage."""

    name: str
    current: str
    """The current generation's number; empty: nothing has been issued."""

    proofs: list[Proof]
    through: list[Proof]
    """What is served at each balancer's own address, if passthrough is on."""

    coming: NextRenewal | None
    compromise: str = ""
    """What remains to be done about compromised keys, in words; empty: nothing."""

    challenge: tuple[str, ...] = ()
    """Where a challenge would be lost, in words."""

    @property
    def renewal(self) -> tuple[str, str]:
        """When it will be renewed, ISO 8601, and why; empty: unknown."""
        return (self.coming.moment.isoformat(), self.coming.why) if self.coming else ("", "")


@dataclass(frozen=True)
class Seen:
    """The result of `prove`."""

    lineages: list[OfLineage]
    state: State
    """What the issuer remembers about its runs."""

    origin: dict[str, Any]
    """The fleet file that was deployed: its SHA-256, when and by whom."""

    at: datetime
    unwritable: str = ""
    """Why the issuer's disk cannot be written; empty: it can."""

    @property
    def all_in_sync(self) -> bool:
        """Whether every backend serves each lineage's current generation."""
        proofs = [proof for each in self.lineages for proof in each.proofs]
        return all(proof.verdict is Verdict.IN_SYNC for proof in proofs)

    @property
    def rows(self) -> list[Proof]:
        """All proofs; those of later lineages include the lineage's name."""
        first, *others = self.lineages
        named = [
            replace(proof, name=f"{proof.name} {each.name}")
            for each in others
            for proof in (*each.proofs, *each.through)
        ]
        return [*first.proofs, *first.through, *named]

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        state = self.state.to_json()
        first, *others = self.lineages
        next_renewal, why = first.renewal
        lost = [text for each in self.lineages for text in each.challenge]
        return {
            "protocol": PROTOCOL,
            "lineage": first.name,
            "current": first.current,
            "at": self.at.isoformat(),
            "proofs": [proof.to_json() for proof in first.proofs],
            "through": [proof.to_json() for proof in first.through],
            "runs": state["runs"],
            "state": state,
            "next_renewal": next_renewal,
            "why": why,
            "origin": self.origin,
            "compromise": "; ".join(each.compromise for each in self.lineages if each.compromise),
            "unwritable": self.unwritable,
            "challenge": "; ".join(dict.fromkeys(lost)),
            "others": {each.name: [proof.to_json() for proof in each.proofs] for each in others},
            "renewals": {each.name: each.renewal for each in others},
            # Not in the proofs: operators from before it would refuse a proof with one more field.
            "key_exchange": {
                each.name: {proof.name: proof.key_exchange for proof in each.proofs}
                for each in self.lineages
            },
        }


Proofs = Mapping[str, Sequence[Proof]]
"""What each backend serves, by the lineage's name."""


def prove(
    looks: Sequence[Situation], memory: Memory, now: datetime,
    proven: Callable[[], Proofs] | None = None,
) -> Seen:  # fmt: skip
    """Return what every backend serves, and what is remembered.

    ``proven`` returns fresh proofs; None: probe the backends now.

    Raises:
        StoreError: the roots cannot be read.
        NewerSchemaError: a newer version wrote the state.
    """
    state, store = memory.state, looks[0].store
    found = parallel.each(lambda one: _of_lineage(one, state, now, proven), looks)
    return Seen(found, state, store.read_state(store.origin), now, store.unwritable())


def _of_lineage(
    seen: Situation, state: State, now: datetime, proven: Callable[[], Proofs] | None
) -> OfLineage:
    wanted, fleet = expected(seen), seen.fleet
    shown = fleet.balancers if fleet.passthrough else ()
    # In parallel: a handshake through a balancer takes twice as long as one with a backend.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(proving.prove, shown, seen.name, wanted, now)
        if proven:
            served = proven()[seen.name]
        else:
            served = proving.prove_with_key_exchange(seen.holders, seen.name, wanted, now)
        through = asked.result()
    returned = seen.marks.returned(fleet)
    proofs = [_barred(each) if each.name in returned else each for each in served]
    current = number_text(wanted.current.number) if wanted.current else ""
    known = state.lineage(seen.name)
    coming, waiting = due.outlook(seen, known, now).next(now), seen.marks.waiting()
    lost = known.challenge_misses
    return OfLineage(seen.name, current, proofs, through, coming, waiting, lost)


def _barred(proof: Proof) -> Proof:
    """Return the proof of a backend that must not get keys: keep it out of the pools."""
    return replace(proof, verdict=Verdict.WRONG, why=RETURNED.format(proof.name))

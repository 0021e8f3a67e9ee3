"""`certsync prove`, on the issuer: probe every backend now, and say what each one serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync import proving
from certsync.commands import issue
from certsync.compromise import RETURNED
from certsync.fleet import Fleet
from certsync.generation import number_text
from certsync.proof import Proof, Verdict
from certsync.schedule import NextRenewal
from certsync.state import State
from certsync.store import Store


@dataclass(frozen=True)
class Seen:
    """What the issuer saw."""

    fleet: Fleet
    current: str
    """The number of the current generation; empty before the first issue."""

    proofs: list[Proof]
    through: list[Proof]
    """What each balancer's own address shows, where the passthrough rule is wished for."""

    state: State
    """What the issuer remembers of its runs."""

    coming: NextRenewal | None
    origin: dict[str, Any]
    """The fleet file that was deployed: its SHA-256, when and by whom."""

    at: datetime
    compromise: str = ""
    """What is still to be done about keys in wrong hands, in words; empty: nothing."""

    @property
    def all_in_sync(self) -> bool:
        """Whether every backend serves the current generation."""
        return all(proof.verdict is Verdict.IN_SYNC for proof in self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        state = self.state.to_json()
        return {
            "lineage": self.fleet.lineage,
            "current": self.current,
            "at": self.at.isoformat(),
            "proofs": [proof.to_json() for proof in self.proofs],
            "through": [proof.to_json() for proof in self.through],
            "runs": state["runs"],
            "state": state,
            "next_renewal": self.coming.moment.isoformat() if self.coming else "",
            "why": self.coming.why if self.coming else "",
            "origin": self.origin,
            "compromise": self.compromise,
        }


def prove(store: Store, now: datetime) -> Seen:
    """Return what every backend serves, and what is remembered.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    wanted = proving.expected(fleet, store)
    marks = store.compromised(fleet.lineage)
    proofs = [
        _barred(proof) if proof.name in marks.returned(fleet) else proof
        for proof in proving.prove(fleet.backends, fleet, wanted, now)
    ]
    through = proving.prove(fleet.balancers, fleet, wanted, now) if fleet.passthrough else []
    current = number_text(wanted.current.number) if wanted.current else ""
    origin = store.read_state(store.origin)
    coming = issue.outlook(store, now).next(now)
    state, waiting = store.recall(), marks.waiting()
    return Seen(fleet, current, proofs, through, state, coming, origin, now, waiting)


def _barred(proof: Proof) -> Proof:
    """Return the proof of one that gets no key: the balancers are not to send it connections."""
    return replace(proof, verdict=Verdict.WRONG, why=RETURNED.format(proof.name))

"""`certsync prove`, on the issuer: probe every backend now, and say what each one serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.ca import due
from certsync.issuer.compromise import RETURNED
from certsync.issuer.replicas.expected import expected
from certsync.issuer.schedule import NextRenewal
from certsync.issuer.state import State
from certsync.issuer.store import Store
from certsync.model.answers import PROTOCOL
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict
from certsync.system import parallel, proving


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
    """What is still to be done about compromised keys, in words; empty: nothing."""

    others: tuple[Seen, ...] = ()
    """The same of each lineage besides the first."""

    @property
    def all_in_sync(self) -> bool:
        """Whether every backend serves the current generation, of each lineage."""
        own = all(proof.verdict is Verdict.IN_SYNC for proof in self.proofs)
        return own and all(each.all_in_sync for each in self.others)

    @property
    def rows(self) -> list[Proof]:
        """Everything that was seen, with the lineage's name where there are several."""
        own = [*self.proofs, *self.through]
        named = [_named(each, other.fleet) for other in self.others for each in other.rows]
        return [*own, *named]

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        state = self.state.to_json()
        together = (self, *self.others)
        next_renewal, why = self.renewal
        return {
            "protocol": PROTOCOL,
            "lineage": self.fleet.lineage,
            "current": self.current,
            "at": self.at.isoformat(),
            "proofs": [proof.to_json() for proof in self.proofs],
            "through": [proof.to_json() for proof in self.through],
            "runs": state["runs"],
            "state": state,
            "next_renewal": next_renewal,
            "why": why,
            "origin": self.origin,
            "compromise": "; ".join(each.compromise for each in together if each.compromise),
            "others": {
                each.fleet.lineage: [proof.to_json() for proof in each.proofs]
                for each in self.others
            },
            "renewals": {each.fleet.lineage: each.renewal for each in self.others},
        }

    @property
    def renewal(self) -> tuple[str, str]:
        """When it is renewed next, ISO 8601, and why then; empty: it is not known."""
        return (self.coming.moment.isoformat(), self.coming.why) if self.coming else ("", "")


Proofs = Mapping[str, Sequence[Proof]]
"""What each backend was seen to serve, by the lineage's name."""


def prove(store: Store, now: datetime, proven: Callable[[], Proofs] | None = None) -> Seen:
    """Return what every backend serves, and what is remembered.

    ``proven`` gives what backends have been seen to serve just now; None: they are looked at.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    lineages = store.lineages()
    first, *others = parallel.each(lambda one: _of_lineage(one, now, proven), lineages)
    return replace(first, others=tuple(others))


def _of_lineage(store: Store, now: datetime, proven: Callable[[], Proofs] | None) -> Seen:
    fleet = store.fleet()
    wanted = expected(fleet, store)
    marks = store.compromised(fleet.lineage)
    shown = fleet.balancers if fleet.passthrough else ()
    # Through a balancer a handshake takes twice as long as to a backend.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(proving.prove, shown, fleet, wanted, now)
        if proven:
            seen = proven()[fleet.lineage]
        else:
            seen = proving.prove(fleet.holders, fleet, wanted, now)
        through = asked.result()
    proofs = [_barred(each) if each.name in marks.returned(fleet) else each for each in seen]
    current = number_text(wanted.current.number) if wanted.current else ""
    origin = store.read_state(store.origin)
    coming = due.outlook(store, now).next(now)
    state, waiting = store.recall(), marks.waiting()
    return Seen(fleet, current, proofs, through, state, coming, origin, now, waiting)


def _named(proof: Proof, fleet: Fleet) -> Proof:
    return replace(proof, name=f"{proof.name} {fleet.lineage}")


def _barred(proof: Proof) -> Proof:
    """Return the proof of one that gets no key: the balancers are not to send it connections."""
    return replace(proof, verdict=Verdict.WRONG, why=RETURNED.format(proof.name))

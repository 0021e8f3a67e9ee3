"""`certsync outlook`, on the issuer: what a deploy's verbs would do there, and the current proof.

One answer for a deploy instead of four: every backend is probed only once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from certsync.issuer.ca import due
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import prove, replicate
from certsync.issuer.replicas.expected import expected
from certsync.issuer.situation import Situation, look_at_all, named
from certsync.issuer.store import Store
from certsync.issuer.tickets import share
from certsync.model.proof import Proof
from certsync.system import proving

Proven = Callable[[], Mapping[str, Sequence[Proof]]]
"""Returns what each backend serves, by the lineage's name, once that is known."""

VERBS = ("issue", "replicate", "tickets", "prove")


def outlook(store: Store, now: datetime, verbs: Collection[str]) -> dict[str, Any]:
    """Return what each verb would do, in words, by verb; for `prove`, see `prove.Seen`.

    Nothing is changed.

    Raises:
        StoreError: this host is not an issuer, or its store cannot be read.
    """
    looks, memory = look_at_all(store), Memory(store)
    ways: dict[str, Callable[[Proven], Any]] = {
        "issue": lambda _: named(
            looks, lambda one: due.outlook(one, memory.of(one.name), now).reasons
        ),
        "replicate": lambda proven: named(
            looks, lambda one: replicate.outlook(one, now, lambda: proven()[one.name])
        ),
        "tickets": lambda proven: share.outlook(looks, now, proven=proven),
        "prove": lambda proven: prove.prove(looks, memory, now, proven).to_json(),
    }
    # In parallel: each of them waits for other machines.
    with ThreadPoolExecutor(len(VERBS) + 1) as pool:
        needs_proofs = set(verbs) - {"issue"}
        proofs = pool.submit(_proofs, looks, now) if needs_proofs else None
        asked = {
            verb: pool.submit(way, proofs.result if proofs else dict)
            for verb, way in ways.items()
            if verb in verbs
        }
        return {verb: each.result() for verb, each in asked.items()}


def _proofs(looks: Sequence[Situation], now: datetime) -> dict[str, list[Proof]]:
    """Return what every backend serves now, by the lineage's name."""
    return {one.name: proving.prove(one.holders, one.name, expected(one), now) for one in looks}

"""`certsync outlook`, on the issuer: what is due of a deploy's part there, and what is proven now.

One answer to a deploy instead of four: every backend is looked at once for all of it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from certsync import proving
from certsync.commands import issue, prove, replicate, tickets
from certsync.commands.each_lineage import named
from certsync.proof import Proof
from certsync.store import Store

VERBS = ("issue", "replicate", "tickets", "prove")


def outlook(store: Store, now: datetime, verbs: Collection[str]) -> dict[str, Any]:
    """Return what each verb would do, in words, by its name; under `prove`, see `prove.Seen`.

    Nothing is changed.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    found: dict[str, Any] = {}
    if "issue" in verbs:
        found["issue"] = named(store, lambda one: issue.outlook(one, now).reasons)
    if not set(verbs) - {"issue"}:
        return found
    proofs = _proofs(store, now)
    if "replicate" in verbs:
        found["replicate"] = named(
            store, lambda one: replicate.outlook(one, now, proofs[one.fleet().lineage]).steps
        )
    if "tickets" in verbs:
        found["tickets"] = tickets.outlook(store, now, proofs=proofs).steps
    if "prove" in verbs:
        found["prove"] = prove.prove(store, now, proofs).to_json()
    return found


def _proofs(store: Store, now: datetime) -> dict[str, list[Proof]]:
    """Return what every backend serves now, by the lineage's name."""
    fleets = [one.fleet() for one in store.lineages()]
    return {
        each.lineage: proving.prove(each.holders, each, proving.expected(each, store), now)
        for each in fleets
    }

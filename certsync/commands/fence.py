"""The fence: an issuer whose push key is refused may be the issuer no more, and does nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from certsync import rollout
from certsync.store import Store


def heed(store: Store, lineage: str, refusing: Collection[str], unreached: Collection[str]) -> None:
    """Go on only if no replica refuses this issuer's push key.

    Who refused it when last reached still does while it is out of reach: sshd does not answer at
    all for a while after some refusals, and that must not look like a replica that is off.

    Raises:
        FencedError: one refuses; all of them are named.
    """
    state = store.recall()
    known = state.lineage(lineage)
    fenced_by = rollout.fenced_by(refusing, unreached, known.fenced_by)
    if fenced_by != known.fenced_by:
        store.remember(state.having(lineage, replace(known, fenced_by=fenced_by)))
    rollout.heed_fence(fenced_by)

"""The fence: an issuer whose push key is refused may be the issuer no more, and does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from certsync import rollout
from certsync.rollout import Standing
from certsync.store import Store


def heed(store: Store, lineage: str, issuer: str, standings: Sequence[Standing]) -> None:
    """Go on only if no replica refuses this issuer's push key that has let it in before.

    One that never has is one whose deploy was cut off, or that a promotion to this issuer missed:
    it is as good as out of reach.

    Who refused it when last reached still does while it is out of reach: sshd does not answer at
    all for a while after some refusals, and that must not look like a replica that is off.

    Raises:
        FencedError: one refuses; all of them are named.
    """
    state = store.recall()
    known = state.lineage(lineage)
    replicas = [each for each in standings if each.name != issuer]
    let_in_by = rollout.let_in_by(replicas, known.let_in_by)
    refusing = [each.name for each in replicas if each.refuses_key and each.name in let_in_by]
    unreached = [each.name for each in replicas if not each.reached]
    fenced_by = rollout.fenced_by(refusing, unreached, known.fenced_by)
    now = replace(known, fenced_by=fenced_by, let_in_by=let_in_by)
    if now != known:
        store.remember(state.having(lineage, now))
    rollout.heed_fence(fenced_by)

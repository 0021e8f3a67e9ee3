"""The fence: an issuer whose push key is refused may no longer be the issuer, and does nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from certsync.issuer import canary
from certsync.issuer.replicas import fence
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.schedule import last_chance
from certsync.issuer.store import Store
from certsync.model.fleet import Fleet


def check_not_fenced(
    store: Store, fleet: Fleet, standings: Sequence[Standing], now: datetime
) -> dict[str, str]:
    """Go on only if this host is still the issuer, as far as its replicas know.

    Return the replicas that refuse its push key and are left out, and why: they are the exception.

    Raises:
        FencedError: replicas refuse the push key that have accepted it before; all are named.
        BrokenStateError: what is remembered of that cannot be read.
    """
    replicas = [each for each in standings if each.name != fleet.issuer_name]
    before = store.fence(fleet.lineage, now)
    after = before.seeing(replicas, now)
    if after != before:
        store.keep_fence(fleet.lineage, after)
    accepting = [each.name for each in replicas if each.reached]
    return leave_out(store, fleet, after.refused, accepting, now)


def leave_out(
    store: Store, fleet: Fleet, refusing: Collection[str], accepting: Collection[str], now: datetime
) -> dict[str, str]:
    """Return the replicas that refuse the push key, and why they do not fence this issuer.

    Raises:
        FencedError: they do.
    """
    if not refusing:
        return {}
    end = last_chance(store.live_manifest(fleet.lineage))
    late = end is not None and now >= end
    leads_here = canary.leads_here(canary.look(fleet, store.webroot), refusing, late=late)
    if not fence.is_exception(refusing, accepting, leads_here, late=late):
        raise fence.refusal(refusing, leads_here)
    return dict.fromkeys(sorted(refusing), fence.LEFT_OUT)

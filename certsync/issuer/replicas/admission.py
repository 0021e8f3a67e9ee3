"""The fence: an issuer whose push key is refused may no longer be the issuer and does nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from certsync.issuer import canary, guards, identity
from certsync.issuer.replicas import fence
from certsync.issuer.replicas.fence import Fence
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.run import Run
from certsync.model.epoch import Epoch
from certsync.model.errors import BrokenStateError, ClonedError, NewerSchemaError
from certsync.system.files import put_aside

NONE: Mapping[str, Epoch] = {}


def check_not_fenced(run: Run, standings: Sequence[Standing]) -> dict[str, str]:
    """Continue only if this host is still the issuer, as far as it and its replicas know.

    Return the replicas that refuse its push key but are only left out, and why.

    Raises:
        ClonedError: this machine is a copy of the issuer.
        FencedError: replicas refuse the push key although they accepted it before, or accept a
            later issuer; all are named.
        BrokenStateError: the record of that cannot be read, and there is time to look at it.
    """
    store = run.seen.store
    _require_original(run)
    replicas = [each for each in standings if each.name != run.seen.fleet.issuer_name]
    own = identity.epoch_of(store)
    later = fence.later_than(own, replicas)
    after = note(run, replicas, later)
    accepting = [each.name for each in replicas if each.reached and each.name not in later]
    refusing = [each.name for each in replicas if each.refuses_key]
    if refusing and not accepting and not after.refused:
        _refuse_where_challenges_lead_elsewhere(run, refusing)
    return leave_out(run, after.refused, accepting, own, later)


def note(run: Run, replicas: Sequence[Standing], later: Collection[str] = ()) -> Fence:
    """Record and return which replicas accept or refuse the push key.

    Raises:
        BrokenStateError: the record cannot be read, and there is time to look at it.
    """
    before = _remembered(run, replicas)
    after = before.seeing(replicas, run.now, later)
    if after != before:
        run.seen.store.keep_fence(run.name, after)
    return after


def _remembered(run: Run, replicas: Sequence[Standing]) -> Fence:
    """Return what is remembered of the push key; a broken record ends as all guards do.

    Then each replica counts as one that has accepted the key: who refuses it now is heard.
    """
    store, name = run.seen.store, run.name
    try:
        return store.fence(name)
    except (BrokenStateError, NewerSchemaError) as error:
        if not guards.have_ended(run):
            raise
        aside = put_aside(store.fence_file(name))
        run.tell(f"warning: {error.message}: moved to {aside}, because time is running out")
        run.did(f"moved a broken record of refused push keys to {aside}")
        return Fence({}, tuple(sorted(each.name for each in replicas)))


def _require_original(run: Run) -> None:
    """Continue on a copy of the issuer only if challenges lead to it: then it is the one in use.

    A machine that was moved gets another UUID. No guard may let its site expire for that.
    """
    try:
        identity.require_original(run.seen.store, run.seen.fleet)
    except ClonedError as error:
        late = guards.have_ended(run)
        sightings = canary.look(run.seen.fleet, run.name, run.seen.store.webroot)
        leads_here = canary.leads_here(sightings, (), late=late)
        if leads_here is False or (leads_here is None and not late):
            raise
        run.tell(f"warning: {error.message.partition(': nothing was')[0]}; {error.hint}")


def _refuse_where_challenges_lead_elsewhere(run: Run, refusing: Collection[str]) -> None:
    """Refuse to act where no replica has ever accepted the key, and challenges go elsewhere, too.

    It may be a replica that a promotion to this issuer missed, and that is the issuer again.
    """
    sightings = canary.look(run.seen.fleet, run.name, run.seen.store.webroot)
    if canary.leads_here(sightings, refusing, late=guards.have_ended(run)) is False:
        raise fence.refusal(refusing, leads_here=False)


def leave_out(
    run: Run,
    refusing: Collection[str],
    accepting: Collection[str],
    own: Epoch | None = None,
    later: Mapping[str, Epoch] = NONE,
) -> dict[str, str]:
    """Return the replicas that refuse the push key, and why they do not fence this issuer.

    Those with a ``later`` epoch than this issuer's ``own`` are among them; if nothing else speaks
    for it, they are only reported.

    Raises:
        FencedError: they do.
    """
    if not refusing:
        return {}
    seen, late = run.seen, guards.have_ended(run)
    sightings = canary.look(seen.fleet, seen.name, seen.store.webroot)
    leads_here = canary.leads_here(sightings, refusing, late=late)
    if not fence.is_exception(refusing, accepting, leads_here, late=late):
        raise (
            fence.replaced(own, later, leads_here)
            if own and later
            else fence.refusal(refusing, leads_here)
        )
    for name in sorted(later):
        run.tell(f"warning: {name}: {fence.CLAIMS_LATER.format(seen.fleet.issuer_name)}")
    return dict.fromkeys(sorted(set(refusing) - set(later)), fence.LEFT_OUT)

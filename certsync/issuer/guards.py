"""When the guards end: nothing that protects a site may keep it without a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from certsync.issuer.ca import crl
from certsync.issuer.run import Run
from certsync.issuer.schedule import half_way
from certsync.model.proof import Proof


def guards_end(run: Run) -> datetime | None:
    """Return until when a guard may refuse what is to follow the live certificate.

    That is half-way from when the live one is due to its expiry; or now, if the CA has revoked it.
    If nothing is live here, or the link to it is lost, what a backend serves counts, too. None:
    nothing is served.
    """
    seen, known = run.seen, run.memory.state_or_nothing.lineage(run.name)
    live = seen.live
    served = None if seen.current in seen.kept else what_is_served_ends(run.served())
    if live is None:
        return served
    info = known.renewal_info
    if known.revoked == live.fingerprint or (
        info is not None and crl.wants_it_replaced(live, info, run.now)
    ):
        return run.now
    own = half_way(live.not_before, live.not_after)
    return min(own, served) if served else own


def what_is_served_ends(proofs: Iterable[Proof]) -> datetime | None:
    """Return half-way from when the first of the served certificates is due to its expiry.

    Proofs are from handshakes: a backend can show no certificate that nobody has issued for the
    name. An expired one ends the guards at once. None: no backend serves one.
    """
    ends = [
        half_way(each.not_before, each.leaf_ends)
        for each in proofs
        if each.not_before is not None and each.leaf_ends is not None
    ]
    return min(ends, default=None)


def end_by_all_that_is_known(run: Run) -> datetime | None:
    """Return the same, where what this machine's server serves counts in any case.

    It may still serve something older than the live link points to: it has not been reloaded since
    the link was lost and put back.
    """
    ends = (guards_end(run), what_is_served_ends(run.served_here()))
    return min((each for each in ends if each is not None), default=None)


def clock_may_stop_until(run: Run) -> datetime | None:
    """Return until when a wrong clock may stop a run; None: nothing is served.

    What any backend serves counts: one that missed the last rollout expires first. If a backend
    shows an old certificate on purpose, the run only goes by the CA's time sooner.
    """
    ends = (end_by_all_that_is_known(run), what_is_served_ends(run.served()))
    return min((each for each in ends if each is not None), default=None)


def have_ended(run: Run) -> bool:
    """Return whether guards may refuse no longer."""
    end = guards_end(run)
    if end is None or run.now < end:
        end = end_by_all_that_is_known(run)
    return end is not None and run.now >= end

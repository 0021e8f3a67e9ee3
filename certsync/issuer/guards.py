"""When the guards end: nothing that protects a site may keep it without a certificate."""

from __future__ import annotations

from datetime import datetime

from certsync.issuer.ca import crl
from certsync.issuer.run import Run
from certsync.issuer.schedule import last_chance


def guards_end(run: Run) -> datetime | None:
    """Return until when a guard may refuse what is to follow the live certificate.

    That is half-way from when the live one is due to its expiry; or now, if the CA has revoked it.
    None: nothing is live.
    """
    live, known = run.seen.live, run.memory.state_or_nothing.lineage(run.name)
    if live is None:
        return None
    info = known.renewal_info
    if known.revoked == live.fingerprint or (
        info is not None and crl.wants_it_replaced(live, info, run.now)
    ):
        return run.now
    return last_chance(live)


def have_ended(run: Run) -> bool:
    """Return whether guards may refuse no longer."""
    end = guards_end(run)
    return end is not None and run.now >= end

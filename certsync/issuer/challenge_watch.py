"""Look once a day whether a challenge would reach the issuer, long before an order is due.

A CA that has validated the names lately asks for no challenge, so that a broken path showed in no
renewal. Let's Encrypt remembers a validation for ten days from 2027-02-10 on, and for seven hours
from 2028-02-16 on: then every order needs the path.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from certsync.issuer.run import Run
from certsync.issuer.state import LineageState

AGAIN = timedelta(days=1)


def is_due(known: LineageState, now: datetime) -> bool:
    """Return whether to look now: once a day, and in every run while a challenge would be lost."""
    looked = known.challenge_looked_at
    # A moment in the future was written while the clock was wrong.
    return bool(known.challenge_misses) or (
        looked is None or not timedelta(0) <= now - looked < AGAIN
    )


def look(run: Run) -> None:
    """Look if that is due; report and record where a challenge would be lost.

    Raises:
        StoreError: the test file cannot be written.
    """
    known, now = run.known, run.now
    if not is_due(known, now):
        return
    misses = run.seen.challenge.look().misses
    for text in misses:
        run.tell(f"warning: no order is due, but a challenge would not reach the issuer: {text}")
    since = min(known.challenge_missed_since or now, now) if misses else None
    run.note(challenge_looked_at=now, challenge_misses=misses, challenge_missed_since=since)

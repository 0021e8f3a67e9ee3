"""A corrupt record of what was withdrawn or is compromised stops every run, but not for ever.

Without it, a run could bring back what somebody took out of use. So people get time to look at it;
it ends when all guards do. Then everything that is not live is barred, whatever the record said,
and the next certificate gets a new key, because the live one's may have been among them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from certsync.issuer import guards
from certsync.issuer.ca import right_time
from certsync.issuer.run import Run, Session
from certsync.issuer.store import Store
from certsync.model.errors import BrokenStateError, NewerSchemaError
from certsync.model.fleet import Fleet, Lineage
from certsync.model.generation import number_text
from certsync.system.files import put_aside, remove_folder


def run_on(session: Session, fleet: Fleet, lineage: Lineage, prefix: str) -> Run:
    """Return the run for one lineage, as `Session.run`; in the end, without a corrupt record.

    Raises:
        BrokenStateError, NewerSchemaError: a record cannot be understood, and there is time to
            look at it.
        StoreError: the store cannot be read.
    """
    try:
        return session.run(fleet, lineage, prefix)
    except (BrokenStateError, NewerSchemaError) as error:
        if not _broken(session.store, lineage.name):
            raise
        run = session.run(fleet, lineage, prefix, with_records=False)
        end = guards.guards_end(run)
        if end is None or not _is_past(end, run):
            raise type(error)(f"{error.message}{_until(end)}", error.hint) from None
        _go_on_without(run)
    return session.run(fleet, lineage, prefix)


def _broken(store: Store, lineage: str) -> list[Path]:
    """Return the records that cannot be understood."""
    records = (
        (store.withdrawn_file(lineage), store.withdrawn),
        (store.compromised_file(lineage), store.compromised),
    )
    return [path for path, read in records if not _is_understood(read, lineage)]


def _is_understood(read: Callable[[str], object], lineage: str) -> bool:
    try:
        read(lineage)
    except (BrokenStateError, NewerSchemaError):
        return False
    return True


def _is_past(end: datetime, run: Run) -> bool:
    """Return whether a moment is past by this machine's clock, or by the CA's if ours is far off.

    A clock that is ahead bars too much too early, but loses nothing: no order follows.
    """
    seen = run.seen
    if run.now >= end:
        return True
    date = right_time.ask(seen.fleet.authority.directory, seen.bundle)
    time = right_time.right_time(date, run.now, end)
    return time is not None and time >= end


def _until(end: datetime | None) -> str:
    if end is None:
        return ""
    return f"; after {end:%Y-%m-%d %H:%M} UTC it is put aside, and a new key is ordered"


def _go_on_without(run: Run) -> None:
    """Bar all but the live generation, have the next order use a new key, put the records aside."""
    store, name = run.seen.store, run.name
    broken = _broken(store, name)
    others = [each for each in run.seen.numbers if each != run.seen.current]
    why = f"{', '.join(each.name for each in broken)} was broken: it may have been in there"
    for number in others:
        store.refuse(name, number, why)
    run.note(new_key=True)
    remove_folder(store.pending(name))
    # Last: if interrupted, the next run does all of it again.
    aside = ", ".join(str(put_aside(each)) for each in broken)
    numbers = ", ".join(number_text(each) for each in others) or "none"
    run.tell(
        f"warning: {', '.join(map(str, broken))} is broken: moved to {aside}, because time is "
        f"running out; the next certificate gets a new key, and these generations are used no "
        f"more: {numbers}"
    )
    run.did(f"moved a broken record to {aside}, and barred generations {numbers}")

"""What the issuer's commands share: root's rights, the fleet lock, recording the outcome."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.memory import Memory
from certsync.issuer.run import Session
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.answers import PastRun
from certsync.model.errors import (
    CertsyncError,
    LockHeldError,
    NewerSchemaError,
    StoreError,
    as_certsync_error,
)
from certsync.programs import lock
from certsync.system import console


@contextmanager
def on_issuer(store: Store, verb: str, token: str, now: datetime) -> Iterator[Session]:
    """Hold the fleet lock, and record how the block ended and what it changed.

    Raises:
        LockHeldError: another run has the lock.
        StoreError: not run as root.
    """
    with locked(verb, token):
        session = Session(store, Memory(store), now, console.tell)
        _put_broken_state_aside(session)
        try:
            yield session
        except CertsyncError as error:
            _note_failure(session, verb, error)
            raise
        except (Exception, KeyboardInterrupt) as error:
            stopped = isinstance(error, KeyboardInterrupt)
            why = "interrupted" if stopped else f"unexpected error: {error!r}"
            _note_failure(session, verb, CertsyncError(why))
            raise
        _note(session, verb, None)


def reading(store: Store, now: datetime) -> Session:
    """Return a session that changes nothing, for a dry run.

    Raises:
        StoreError: not run as root.
    """
    require_root()
    return Session(store, Memory(store), now, console.tell)


def _put_broken_state_aside(session: Session) -> None:
    """Move a corrupt state file aside; one from a newer version is left alone."""
    try:
        aside = session.memory.put_broken_aside()
    except NewerSchemaError:
        return
    if aside is not None:
        path = session.store.state_file
        console.warn(f"{path} is broken: moved to {aside}, continuing without it")
        session.done.append(f"moved a broken state file to {aside}")


@contextmanager
def locked(verb: str, token: str) -> Iterator[None]:
    """Hold the fleet lock without recording anything.

    Raises:
        LockHeldError: another run has the lock, or the run that started this has lost it.
        StoreError: not run as root.
    """
    require_root()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _stop)
    who = f"certsync {verb} (process {os.getpid()} on the issuer)"
    try:
        with lock.hold(who, token):
            yield
    except lock.Lost as lost:
        raise LockHeldError(str(lost), "start the whole command again") from None
    except lock.Held as held:
        raise LockHeldError(str(held), "wait until it ends, then run this again") from None


def _stop(*_arguments: object) -> None:
    # Like Ctrl-C, so that challenge files and copies of keys are removed on the way out.
    raise KeyboardInterrupt


def require_root() -> None:
    """Refuse to work on the store as another user.

    Raises:
        StoreError: not run as root.
    """
    if os.geteuid() != 0:
        raise StoreError("only root can read the fleet's certificates", "run this with sudo")


def _note_failure(session: Session, verb: str, error: CertsyncError) -> None:
    """Record a failure if possible: on a full disk, people should still see the failure itself."""
    try:
        _note(session, verb, error)
    except OSError as unwritten:
        console.warn(f"{as_certsync_error(unwritten).message}: the run's end is not recorded")


def _note(session: Session, verb: str, error: CertsyncError | None) -> None:
    run = PastRun(
        verb,
        session.now,
        error.exit_status if error else 0,
        error.message if error else "",
        error.hint if error else "",
        tuple(session.done),
    )
    memory = session.memory
    steps.take(Step.REMEMBER, lambda: memory.keep(memory.state.ended(run)))

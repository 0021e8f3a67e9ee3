"""What the issuer's commands share: root's rights, the fleet lock, and a note of how it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.state import NotedRun
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError, LockHeldError, NewerSchemaError, StoreError
from certsync.programs import lock
from certsync.system import console


@contextmanager
def on_issuer(store: Store, verb: str, token: str, now: datetime) -> Iterator[list[str]]:
    """Hold the fleet lock, and write down how the block ended.

    What the block appends to the list it is given is written down as what it did.

    Raises:
        LockHeldError: another run has the lock.
        StoreError: this is not root.
    """
    with locked(verb, token):
        done = _state_put_aside(store)
        try:
            yield done
        except CertsyncError as error:
            _note(store, verb, now, done, error)
            raise
        except (Exception, KeyboardInterrupt) as error:
            stopped = isinstance(error, KeyboardInterrupt)
            why = "interrupted" if stopped else f"unforeseen: {error!r}"
            _note(store, verb, now, done, CertsyncError(why))
            raise
        _note(store, verb, now, done, None)


def _state_put_aside(store: Store) -> list[str]:
    """Return what was done about a state file that cannot be read; a newer one is left alone."""
    try:
        aside = store.put_broken_state_aside()
    except NewerSchemaError:
        return []
    if aside is None:
        return []
    console.warn(f"{store.state_file} cannot be read: moved to {aside}, starting with none")
    return [f"put a broken state file aside as {aside}"]


@contextmanager
def locked(verb: str, token: str) -> Iterator[None]:
    """Hold the fleet lock, and write nothing down.

    Raises:
        LockHeldError: another run has the lock, or the one that has started this has lost it.
        StoreError: this is not root.
    """
    require_root()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _stop)
    who = f"certsync {verb} (process {os.getpid()} on the issuer)"
    try:
        with lock.hold(who, token):
            yield
    except lock.Lost as lost:
        raise LockHeldError(str(lost), "run the whole command again") from None
    except lock.Held as held:
        raise LockHeldError(str(held), "wait for it, then run this again") from None


def _stop(*_arguments: object) -> None:
    # As Ctrl-C does, so that challenge files and copies of keys go away on the way out.
    raise KeyboardInterrupt


def require_root() -> None:
    """Refuse to work on the store as anybody else.

    Raises:
        StoreError: this is not root.
    """
    if os.geteuid() != 0:
        raise StoreError("only root can read the fleet's certificates", "run it with sudo")


def _note(
    store: Store, verb: str, now: datetime, done: Sequence[str], error: CertsyncError | None
) -> None:
    run = NotedRun(
        verb,
        now.isoformat(),
        error.exit_status if error else 0,
        error.message if error else "",
        error.hint if error else "",
        tuple(done),
    )
    steps.take(Step.REMEMBER, lambda: store.remember(store.recall().ended(run)))

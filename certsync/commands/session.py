"""What the issuer's commands share: root's rights, the fleet lock, and a note of how it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from certsync import lock
from certsync.errors import CertsyncError, LockHeldError, StoreError
from certsync.store import Store


@contextmanager
def on_issuer(store: Store, verb: str, token: str, now: datetime) -> Iterator[None]:
    """Hold the fleet lock, and write down how the block ended.

    Raises:
        LockHeldError: another run has the lock.
        StoreError: this is not root.
    """
    require_root()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _stop)
    who = f"certsync {verb} (process {os.getpid()} on the issuer)"
    try:
        with lock.hold(who, token):
            try:
                yield
            except CertsyncError as error:
                _note(store, verb, now, error)
                raise
            _note(store, verb, now, None)
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


def last_runs(store: Store) -> dict[str, Any]:
    """Return how each verb's last run on this issuer ended."""
    runs: dict[str, Any] = store.read_state(store.state / "runs.json").get("runs", {})
    return runs


def _note(store: Store, verb: str, now: datetime, error: CertsyncError | None) -> None:
    runs = last_runs(store)
    runs[verb] = {
        "at": now.isoformat(),
        "exit": error.exit_status if error else 0,
        "error": error.message if error else "",
        "hint": error.hint if error else "",
    }
    store.write_state(store.state / "runs.json", {"runs": runs})

"""The issuer's set of session ticket keys, and the note on it. In memory, and gone at a reboot.

The set is where every backend has its own; the note lies beside the keys, so that a set which
another issuer has pushed here has none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from certsync.issuer.tickets.decide import SCHEMA, Keys, Note
from certsync.model import codec
from certsync.model.errors import TicketsError
from certsync.programs import receiver

NOTE = "note.json"
HINT = "look at `systemctl status nginx` on the issuer; the keys before stay in use"


def fresh() -> bytes:
    """Return a new key."""
    return os.urandom(receiver.TICKET_KEY_SIZE)


def read() -> tuple[Keys, Note | None]:
    """Return the set that nginx has, and its note; a set is made where there is none."""
    receiver.own_tickets()
    return Keys.of(receiver.ticket_keys()), note()


def note() -> Note | None:
    """Return the note on the set; None: there is none, or it is none that we wrote."""
    try:
        found = codec.typed(json.loads((receiver.TICKETS / "live" / NOTE).read_bytes()), Note)
    except (OSError, *codec.NOT_THESE):
        return None
    return found if found.schema <= SCHEMA else None


def write(note: Note) -> None:
    """Put a note beside the keys, in the place of the one before."""
    folder = receiver.TICKETS / "live"
    (folder / f".{NOTE}").write_bytes(_text(note))
    (folder / f".{NOTE}").replace(folder / NOTE)


def use(keys: Keys, note: Note) -> None:
    """Let nginx use other keys.

    Raises:
        TicketsError: nginx will not; it goes on with those before.
    """
    with _lock():
        try:
            receiver.use_tickets({**keys.files(), NOTE: _text(note)})
        except receiver.Refused as refused:
            raise TicketsError(
                f"nginx on the issuer does not take new session ticket keys: {refused}", HINT
            ) from None


@contextmanager
def _lock() -> Iterator[None]:
    with receiver.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _text(note: Note) -> bytes:
    return json.dumps(codec.plain(note)).encode()

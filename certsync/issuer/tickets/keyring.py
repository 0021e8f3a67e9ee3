"""The issuer's set of session ticket keys, and its note. In memory, and gone after a reboot.

The set is in the same place as on every backend. The note is beside the keys, so that a set pushed
here by another issuer has none.
"""

from __future__ import annotations

import json
import os

from certsync.issuer.tickets.decide import SCHEMA, Keys, Note
from certsync.model import codec
from certsync.model.errors import TicketsError
from certsync.programs import receiver

NOTE = "note.json"
HINT = "check `systemctl status nginx` on the issuer; the previous keys stay in use"


def fresh() -> bytes:
    """Return a new key."""
    return os.urandom(receiver.TICKET_KEY_SIZE)


def read() -> tuple[Keys, Note | None]:
    """Return nginx's set and its note; make a set if there is none."""
    receiver.own_tickets()
    return Keys.of(receiver.ticket_keys()), note()


def note() -> Note | None:
    """Return the set's note; None: there is none, or it is not ours."""
    try:
        found = codec.typed(json.loads((receiver.TICKETS / "live" / NOTE).read_bytes()), Note)
    except (OSError, *codec.NOT_THESE):
        return None
    return found if found.schema <= SCHEMA else None


def write(note: Note) -> None:
    """Write a note beside the keys, replacing the previous one."""
    folder = receiver.TICKETS / "live"
    (folder / f".{NOTE}").write_bytes(_text(note))
    (folder / f".{NOTE}").replace(folder / NOTE)


def use(keys: Keys, note: Note) -> None:
    """Make nginx use other keys.

    Raises:
        TicketsError: nginx refuses them and keeps the previous ones.
    """
    try:
        with receiver.lock_file() as lock, receiver.alone(lock):
            receiver.use_tickets({**keys.files(), NOTE: _text(note)})
    except receiver.Refused as refused:
        raise TicketsError(
            f"nginx on the issuer does not accept new session ticket keys: {refused}", HINT
        ) from None


def _text(note: Note) -> bytes:
    return json.dumps(codec.plain(note)).encode()

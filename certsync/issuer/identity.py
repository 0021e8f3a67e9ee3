"""Is this machine the one that a deploy made the issuer, or a copy of it?"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

from certsync.issuer.store import Store
from certsync.model import epoch
from certsync.model.epoch import Epoch
from certsync.model.errors import ClonedError, StoreError
from certsync.model.fleet import Fleet
from certsync.model.identity import Identity, in_marker

SOURCES = (Path("/etc/machine-id"), Path("/sys/class/dmi/id/product_uuid"))
"""See machine-id(5); a copy of a virtual machine gets a UUID of its own from most hypervisors."""


def of_this_machine(address: str) -> Identity:
    """Return this machine's identity; ``address`` is the issuer's private one."""
    content = b"".join(path.read_bytes() for path in SOURCES if path.exists())
    return Identity(hashlib.sha256(content).hexdigest(), _is_own(address))


def _is_own(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def require_original(store: Store, fleet: Fleet) -> None:
    """Continue only on the machine that a deploy made the issuer.

    Raises:
        ClonedError: this is another machine.
        StoreError: the marker cannot be read.
    """
    expected = in_marker(_marker(store))
    why = expected.differs(of_this_machine(fleet.issuer.private_address))
    if why:
        raise ClonedError(
            f"this machine is a copy of {fleet.issuer_name}, the issuer ({why}): nothing was "
            "ordered or activated",
            "to make it a replica: `certsync add-backend FLEET NAME`; if the issuer was moved to "
            "this machine: `certsync deploy FLEET`",
        )


def epoch_of(store: Store) -> Epoch | None:
    """Return this issuer's epoch; None: an earlier version deployed it.

    Raises:
        StoreError: the marker cannot be read.
    """
    return epoch.in_text(_marker(store))


def _marker(store: Store) -> str:
    try:
        return store.marker.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StoreError(f"{store.marker}: {error.strerror}") from None

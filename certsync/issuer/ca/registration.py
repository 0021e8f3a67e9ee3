"""Our account at a CA as the issuer's disk has it: a key, and the registration that goes with it.

Only the standard library, so that an hourly run can look without loading what talks to the CA.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

KEY = "key.pem"
REGISTRATION = "account.json"
KEY_SUM = "key"
"""In the registration: SHA-256, in hex, of the key's file that it belongs to."""


def read(folder: Path) -> dict[str, Any]:
    """Return the registration in an account's folder (RFC 8555 section 7.1.2); empty: none.

    One that cannot be read, or does not belong to the key beside it, is none.
    """
    try:
        found = json.loads((folder / REGISTRATION).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or not isinstance(found.get("uri"), str):
        return {}
    own = key_sum(folder)
    return found if own and found.pop(KEY_SUM, "") == own else {}


def key_sum(folder: Path) -> str:
    """Return the SHA-256, in hex, of the account's key file; empty: there is none."""
    try:
        return hashlib.sha256((folder / KEY).read_bytes()).hexdigest()
    except OSError:
        return ""


def put_broken_aside(folder: Path) -> None:
    """Keep a registration that is no JSON under another name: it was cut off, or edited by hand."""
    path = folder / REGISTRATION
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        path.replace(path.with_suffix(".json.broken"))


def forget(folder: Path) -> None:
    """Remove the registration, so that the next order registers the key again."""
    (folder / REGISTRATION).unlink(missing_ok=True)


def finding(folder: Path) -> str:
    """Return why the account could not order; empty: as far as the disk says, it could."""
    if read(folder):
        return ""
    if not key_sum(folder):
        return f"the key of the account at the CA is lost ({folder / KEY})"
    return f"{folder / REGISTRATION} does not match {KEY} beside it"

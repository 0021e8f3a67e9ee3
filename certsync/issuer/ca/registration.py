"""Our CA account on the issuer's disk: a key, and the registration that belongs to it.

Standard library only, so that the hourly run can check it without loading an ACME library.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

KEY = "key.pem"
REGISTRATION = "account.json"
KEY_SUM = "key"
"""In the registration: the SHA-256, in hex, of its key's file."""


def read(folder: Path) -> dict[str, Any]:
    """Return the registration in an account's folder (RFC 8555 section 7.1.2); empty: none.

    A registration that is unreadable or does not belong to the key beside it is ignored.
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
    """Rename a registration that is not valid JSON: it was truncated or edited by hand."""
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
    """Return why the account could not order, judging by the disk; empty: it could."""
    if read(folder):
        return ""
    if not key_sum(folder):
        return f"the CA account's key is missing ({folder / KEY})"
    return f"{folder / REGISTRATION} does not match {KEY} beside it"

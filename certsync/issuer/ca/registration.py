"""Our CA account on the issuer's disk: a key, and the registration that belongs to it.

Standard library only, so that the hourly run can check it without loading an ACME library.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

KEY = "key.pem"
REGISTRATION = "account.json"
KEY_SUM = "key"
"""In the registration: the SHA-256, in hex, of its key's file."""

ENDED = ".ended"
ANEW = timedelta(days=1)


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


def put_ended_aside(folder: Path, now: datetime) -> bool:
    """Rename the files of an account that the CA has ended, so that a new one is registered.

    At most once a day: a CA may end each new account, too. Return whether they were renamed.
    """
    aside = folder / f"{KEY}{ENDED}"
    if aside.exists():
        last = datetime.fromtimestamp(aside.stat().st_mtime, timezone.utc)
        if timedelta(0) <= now - last < ANEW:
            return False
    for name in (KEY, REGISTRATION):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).replace(folder / f"{name}{ENDED}")
    with contextlib.suppress(FileNotFoundError):
        os.utime(aside, (now.timestamp(), now.timestamp()))
    return True


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

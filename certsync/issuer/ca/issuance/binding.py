"""External account binding (RFC 8555 section 7.3.4): a secret that identifies a CA's customer."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path

from certsync.model.errors import StoreError
from certsync.model.fleet import Fleet


@dataclass(frozen=True)
class Binding:
    """What a CA gives to its customer."""

    key_id: str
    hmac_key: str = field(repr=False)
    """base64url, a secret."""


def read_binding(fleet: Fleet, path: Path) -> Binding | None:
    """Return the binding that the fleet file names, with its secret from a root-only file.

    Raises:
        StoreError: the file is missing, readable by others, or contains no key.
    """
    key_id = fleet.authority.eab_key_id
    if not key_id:
        return None
    put = (
        f"on {fleet.issuer_name}: sudo install -m 600 /dev/stdin {path}, paste the key, "
        "then press Ctrl-D"
    )
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
    except FileNotFoundError:
        raise StoreError(f"{path}, the CA's HMAC key for {key_id}, is missing", put) from None
    except UnicodeDecodeError:
        raise StoreError(f"{path} does not contain an HMAC key", put) from None
    if mode & 0o077:
        raise StoreError(f"{path} is readable by users other than root", f"sudo chmod 600 {path}")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise StoreError(f"{path} does not contain an HMAC key in base64url", put)
    return Binding(key_id, text.rstrip("="))

"""Check whether a site advertises HTTP/3, which TCP passthrough cannot carry (RFC 7838)."""

from __future__ import annotations

import http.client
import re

from certsync.system import http_get
from certsync.system.deadline import Deadline
from certsync.system.unverified import opened

SECONDS = 5.0
PROMISE = re.compile(r"\bh3(-\d+)?\s*=")


def promise(address: str, port: int, name: str, seconds: float = SECONDS) -> str:
    """Return the `Alt-Svc` header of a site's home page if it offers HTTP/3; else nothing.

    The certificate is not verified, and a failed request returns nothing: other checks report both.
    """
    deadline = Deadline(seconds)
    try:
        with opened(address, port, name, deadline) as tls:
            tls.sendall(f"HEAD / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            header = http_get.begun(tls, "HEAD", deadline).getheader("Alt-Svc", "")
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    return header if offers_http_3(header) else ""


def offers_http_3(header: str) -> bool:
    """Return whether an `Alt-Svc` header names HTTP/3 (RFC 9114 section 3.1.1)."""
    return bool(PROMISE.search(header))


def note(name: str, header: str) -> str:
    """Return the warning for the operator."""
    return (
        f"{name} advertises HTTP/3 (Alt-Svc: {header[:80]}), but UDP is not passed through: "
        "browsers try it and lose time; remove the header from your site"
    )

"""Tells a monitor elsewhere that a run has ended well, by asking for a URL.

The URL is half a secret, since whoever knows it can stand in for a run: only its scheme and host
are ever told.
"""

from __future__ import annotations

from urllib.parse import urlsplit

SECONDS = 10
REDIRECTS = 5


def ping(url: str) -> str:
    """Ask for the URL, and return why it did not work; empty: it did. Nothing is ever raised."""
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}"
    except ValueError:
        return "the heartbeat's URL is none"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the heartbeat's URL is no http:// or https:// one"
    why = _ask(url)
    return f"the heartbeat was not heard by {shown}: {why}" if why else ""


def _ask(url: str) -> str:
    # Some tenths of a second, that only a fleet with a heartbeat has to wait for.
    from http.client import HTTPException

    from certsync.system import http_get

    try:
        answer = http_get.get(url, http_get.Limits(SECONDS, 0, REDIRECTS))
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error)
    # What it says beyond the number can repeat where it was redirected to.
    return "" if 200 <= answer.status < 300 else f"it answers {answer.status}"


def _reason(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {SECONDS} seconds"
    # Only the system's own words: others' texts may repeat the URL.
    return (isinstance(reason, OSError) and reason.strerror) or type(reason).__name__

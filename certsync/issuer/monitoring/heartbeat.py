"""Tell an external monitor that a run succeeded, by requesting a URL.

Whoever knows the URL can fake a run, so messages only contain its scheme and host.
"""

from __future__ import annotations

from urllib.parse import urlsplit

SECONDS = 10
REDIRECTS = 5


def ping(url: str) -> str:
    """Request the URL, and return why it failed; empty: it did not. Nothing is ever raised."""
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}"
    except ValueError:
        return "the heartbeat's URL is invalid"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the heartbeat's URL is not an http:// or https:// one"
    why = _ask(url)
    return f"the heartbeat to {shown} failed: {why}" if why else ""


def _ask(url: str) -> str:
    # Takes tenths of a second to load: only fleets with a heartbeat should pay for it.
    from http.client import HTTPException

    from certsync.system import http_get

    try:
        answer = http_get.get(url, http_get.Limits(SECONDS, 0, REDIRECTS))
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error)
    # Nothing but the number: the rest may contain the redirect's target.
    return "" if 200 <= answer.status < 300 else f"it answers {answer.status}"


def _reason(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {SECONDS} seconds"
    # Only the system's own errors: other texts may contain the URL.
    return (isinstance(reason, OSError) and reason.strerror) or type(reason).__name__

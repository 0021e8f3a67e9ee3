"""Moments as JSON has them."""

from __future__ import annotations

from datetime import datetime


def moment(text: str) -> datetime:
    """Return a moment that was written as ISO 8601.

    Raises:
        ValueError, TypeError: it is none, or has no time zone, so that it cannot be compared.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found

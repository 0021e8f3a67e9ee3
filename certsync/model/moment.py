"""Moments in JSON."""

from __future__ import annotations

from datetime import datetime


def moment(text: str) -> datetime:
    """Parse an ISO 8601 moment.

    Raises:
        ValueError, TypeError: it is not one, or has no time zone and so cannot be compared.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found

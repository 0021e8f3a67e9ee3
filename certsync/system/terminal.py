"""Text as a terminal may be given it: what other machines say can move no cursor there. Pure."""

from __future__ import annotations

from typing import Any
from unicodedata import category

LAYOUT = "\n\t"
"""What our own texts of several lines are laid out with."""


def harmless(text: str) -> str:
    """Return a text with a `?` in the place of each character that is not shown as one.

    Escape and other control characters are among them, and those that turn the direction of the
    text round (Unicode's categories Cc and Cf). Another blank (Zs), as French has them, is a space.
    """
    return "".join(
        each if each in LAYOUT or each.isprintable() else " " if category(each) == "Zs" else "?"
        for each in text
    )


def harmless_values(data: Any) -> Any:
    """Return what `json.dumps` takes with every text in it made `harmless`; keys are our own."""
    if isinstance(data, str):
        return harmless(data)
    if isinstance(data, dict):
        return {key: harmless_values(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [harmless_values(value) for value in data]
    return data

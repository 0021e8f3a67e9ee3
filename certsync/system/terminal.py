"""Make text safe for a terminal: no control characters from other machines. Pure."""

from __future__ import annotations

from typing import Any
from unicodedata import category

LAYOUT = "\n\t"
"""The control characters that our own messages use."""


def harmless(text: str) -> str:
    """Return a text with each unprintable character replaced by `?`.

    These include escape and other control characters, and those that change the text's direction
    (Unicode categories Cc and Cf). Other blanks (Zs) become spaces.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each in LAYOUT or each.isprintable() else " " if category(each) == "Zs" else "?"
        for each in text
    )


def harmless_values(data: Any) -> Any:
    """Return data for `json.dumps` with every text made `harmless`; keys are our own."""
    if isinstance(data, str):
        return harmless(data)
    if isinstance(data, dict):
        return {key: harmless_values(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [harmless_values(value) for value in data]
    return data

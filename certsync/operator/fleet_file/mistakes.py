"""Mistakes in a fleet file's values: pydantic's errors, reworded for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, time
from typing import Any

from pydantic_core import ErrorDetails

from certsync.model.errors import Mistake
from certsync.operator.fleet_file.places import NAME
from certsync.operator.fleet_file.rules import UnfitError, did_you_mean, quoted
from certsync.operator.fleet_file.schema import FILE, home_of, keys_of

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

WANTED = {
    "string_type": ("a string", "write it in quotes"),
    "int_type": ("a whole number", "write it without quotes or a fraction"),
    "bool_type": ("true or false", "write it without quotes"),
    "list_type": ("a list", 'write it in brackets: ["..."]'),
    "dict_type": ("a table", ""),
    "model_type": ("a table", ""),
}
"""What to say for each of pydantic's error types that the schema can cause."""

FOUND: dict[type, str] = {
    bool: "true or false",
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    list: "a list",
    dict: "a table",
    date: "a date",
    time: "a time",
}


def dotted(*keys: str) -> str:
    """Return a key's place in the file, in TOML's dotted form."""
    return ".".join(key if BARE_KEY.fullmatch(key) else quoted(key) for key in keys)


def from_pydantic(error: ErrorDetails) -> Mistake:
    """Return the mistake that pydantic found in a file."""
    keys = [part for part in error["loc"] if isinstance(part, str)]
    where = dotted(*keys)
    if error["type"] == "extra_forbidden":
        return Mistake(where, "unknown key", _meant(keys))
    if error["type"] == "value_error":
        return from_rule(error["ctx"]["error"], where)
    wanted, hint = WANTED[error["type"]]
    if wanted == "a table":
        unnamed = NAME in FILE[keys[0]] and len(keys) < 3
        hint = f"write [{keys[0]}.NAME] above its keys" if unnamed else f"write [{where}]"
    position = next((part for part in error["loc"] if isinstance(part, int)), None)
    entry = "" if position is None else f"entry {position + 1} "
    return Mistake(where, f"{entry}must be {wanted}, not {_found(error['input'])}", hint)


def from_rule(error: UnfitError, place: str) -> Mistake:
    """Return the mistake for a value that its rule refused."""
    return Mistake(place, error.message, error.hint)


def without(data: dict[str, Any], places: Iterable[tuple[int | str, ...]]) -> dict[str, Any]:
    """Remove the values at these places, which are in the order of the data."""
    for *above, last in reversed(list(places)):
        table: Any = data
        for key in above:
            table = table[key]
        del table[last]
    return data


def _meant(keys: Sequence[str]) -> str:
    """Return the hint for an unknown key."""
    *table, key = keys
    known = list(keys_of(table))
    if hint := did_you_mean(key, known, quote="`"):
        return hint
    home = home_of(key)
    return f"it belongs {home}" if home else f"known keys here: {', '.join(known)}"


def _found(value: object) -> str:
    # In Python a bool is an int, so the order of FOUND matters.
    return next((name for kind, name in FOUND.items() if isinstance(value, kind)), "another type")

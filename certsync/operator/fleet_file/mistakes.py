"""Mistakes of a fleet file in our own words: what pydantic and tomlkit found, told to a person."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, time
from typing import Any

from pydantic_core import ErrorDetails
from tomlkit.exceptions import ParseError, TOMLKitError

from certsync.model.errors import Mistake
from certsync.operator.fleet_file.rules import UnfitError, did_you_mean, quoted
from certsync.operator.fleet_file.schema import Table, home_of

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
KEY = re.compile(r"\s*([\w.\"' -]+?)\s*=")
UNMEANING = re.compile(r"[\s\"']")
"""What two spellings of one key may differ by."""

PARSER_POSITION = re.compile(r" at line \d+ col \d+$")

WANTED = {
    "string_type": ("a string", "write it in quotes"),
    "int_type": ("a whole number", "write it without quotes and fraction"),
    "bool_type": ("true or false", "write it without quotes"),
    "list_type": ("a list", 'write it in brackets: ["..."]'),
    "dict_type": ("a table", ""),
}
"""Pydantic's types of error, for all types of value in the schema."""

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
    """Return a key's place in the file, as TOML would spell it."""
    return ".".join(key if BARE_KEY.fullmatch(key) else quoted(key) for key in keys)


def from_pydantic(error: ErrorDetails, place: str, table: type[Table]) -> Mistake:
    """Return the mistake that pydantic found in the table at this place."""
    keys = [part for part in error["loc"] if isinstance(part, str)]
    where = dotted(*keys) if not place else f"{place}.{dotted(*keys)}"
    if error["type"] == "extra_forbidden":
        return unknown_key(where, keys[-1], table)
    if error["type"] == "value_error":
        return from_rule(error["ctx"]["error"], where)
    wanted, hint = WANTED[error["type"]]
    if wanted == "a table":
        machine = keys[0] in ("backends", "balancers", "lineages")
        hint = f"write [{keys[0]}.NAME] above its keys" if machine else f"write [{keys[0]}]"
    position = next((part for part in error["loc"] if isinstance(part, int)), None)
    entry = "" if position is None else f"entry {position + 1} "
    return Mistake(where, f"{entry}must be {wanted}, not {_found(error['input'])}", hint)


def from_rule(error: UnfitError, place: str) -> Mistake:
    """Return the mistake of a value that its rule refused."""
    return Mistake(place, error.message, error.hint)


def from_parser(error: TOMLKitError, text: str) -> Mistake:
    """Return the mistake of a text that is not TOML."""
    said = PARSER_POSITION.sub("", str(error)).rstrip(".")
    if "already exists" in said or "Redefinition" in said:
        # The parser tells the line of a repeated key only at the top of the file, and of a
        # repeated table the last line instead of the first.
        number, what = _repeated(text)
        place = f"line {number}" if number else "file"
        return Mistake(place, f"{what or 'a table or key'} is there twice", "keep one of them")
    if "'\\x00'" in said:
        said = "Unexpected end of file"
    line, column = (error.line, error.col) if isinstance(error, ParseError) else (0, 0)
    at_column = f" (column {column})" if column else ""
    return Mistake(
        f"line {line}" if line else "file",
        f"not TOML: {said[:1].lower()}{said[1:]}{at_column}",
        "a value is a quoted string, a number, true, false or a [list]",
    )


def unknown_key(place: str, key: str, table: type[Table]) -> Mistake:
    """Return the mistake of a key that this table does not know."""
    hint = did_you_mean(key, table.keys(), quote="`")
    if not hint and (home := home_of(key)):
        hint = f"it belongs in {home}" if home.startswith("[") else f"it belongs at {home}"
    return Mistake(place, "unknown key", hint or f"known here: {', '.join(table.keys())}")


def without(data: dict[str, Any], places: Iterable[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return a copy of nested data that lacks what is at these places."""
    doomed = set(places)

    def copy(value: Any, at: tuple[int | str, ...]) -> Any:
        if isinstance(value, dict):
            kept = ((key, item) for key, item in value.items() if (*at, key) not in doomed)
            return {key: copy(item, (*at, key)) for key, item in kept}
        if isinstance(value, list):
            return [copy(item, (*at, i)) for i, item in enumerate(value) if (*at, i) not in doomed]
        return value

    kept: dict[str, Any] = copy(data, ())
    return kept


def _found(value: object) -> str:
    # A bool is an int to Python, so the order of FOUND counts.
    return next((name for kind, name in FOUND.items() if isinstance(value, kind)), "that")


def _repeated(text: str) -> tuple[int, str]:
    """Return line and spelling of the first table or key that is there twice, (0, "") if none."""
    headers: set[str] = set()
    keys: set[str] = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := HEADER.match(line):
            spelling, seen = f"[{header[1].strip()}]", headers
            keys = set()
        elif key := KEY.match(line):
            spelling, seen = f"`{key[1].strip()}`", keys
        else:
            continue
        plain = UNMEANING.sub("", spelling)
        if plain in seen:
            return number, spelling
        seen.add(plain)
    return 0, ""

"""Reads TOML, and rewords the parser's errors for people.

A repeated key or table is reported with the line where it starts; the parser says where it ends.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from certsync.model.errors import FleetFileError, Mistake

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

POSITION = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
"""The end of the parser's messages; only the one about a number that is too long has none."""

WORD = r"""\s*(?:[\w-]+|"[^"]*"|'[^']*')\s*"""
KEY = rf"{WORD}(?:\.{WORD})*"
SPELLING = re.compile(rf"\s*(?:(\[{KEY}\]|\[\[{KEY}\]\])|({KEY})=)")
"""The beginning of a line that starts a table or a value."""

REPEATED = {
    "Cannot declare": ("appears twice", "keep one of them"),
    "Cannot overwrite": ("appears twice", "keep one of them"),
    "Duplicate inline": ("contains a key twice", "keep one of them"),
    "Cannot mutate": ("adds to something defined elsewhere", "define it in one place"),
    "Cannot redefine": ("adds to something defined elsewhere", "define it in one place"),
}
"""Replacements for the parser's messages, by their first two words."""

VALUES = "a value is a quoted string, a number, true, false or a [list]"


def parsed(text: str, path: str) -> dict[str, Any]:
    """Return the values of a TOML text; ``path`` is the file's name for messages.

    Raises:
        FleetFileError: it is not TOML.
    """
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        found = Mistake("file", "is nested too deeply to be read", VALUES)
    except ValueError as error:
        if str(error).startswith('Expected "\'"'):
            # Only with a closing quote at the end does the parser say where the string is.
            return parsed(f"{text}\n'", path)
        found = _mistake(str(error), text)
    else:
        return data
    raise FleetFileError(path, [found])


def _mistake(message: str, text: str) -> Mistake:
    position = POSITION.fullmatch(message)
    if not position:
        return Mistake("file", f"not TOML: {_lower(message.partition(';')[0])}", VALUES)
    message, line, column = position.groups()
    number = int(line or text.rstrip().count("\n") + 1)
    if meaning := REPEATED.get(" ".join(message.split()[:2])):
        number, what = _begun(text, number)
        return Mistake(f"line {number}", f"{what} {meaning[0]}", meaning[1])
    if message.endswith(r"'\n'"):
        message = "a string that does not end on its line"
    at = f"column {column}" if column else "at the end of the file"
    return Mistake(f"line {number}", f"not TOML: {_lower(message)} ({at})", VALUES)


def _begun(text: str, number: int) -> tuple[int, str]:
    """Return the line where the key or table that ends on this line starts, and its spelling."""
    lines = text.split("\n")[:number]
    for at in range(number, 0, -1):
        if found := SPELLING.match(lines[at - 1]):
            header, key = found.groups()
            return at, header or f"`{key.strip()}`"
    return number, "a table or key"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]

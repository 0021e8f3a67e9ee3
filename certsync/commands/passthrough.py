"""`certsync passthrough on|off`: edit the wish in the fleet file; a deploy carries it out."""

from __future__ import annotations

from pathlib import Path

import tomlkit

from certsync.fleet_file import parse_fleet, read_fleet
from certsync.store import write_whole


def passthrough(path: Path, *, on: bool) -> str:
    """Set the wish in a fleet file, its comments kept, and return what to do next.

    Raises:
        FleetFileError: the file has mistakes; it is left as it is.
    """
    word = "on" if on else "off"
    if read_fleet(path).passthrough is on:
        return f"passthrough is {word} in {path} already"
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document["passthrough"] = on
    text = tomlkit.dumps(document)
    parse_fleet(text, str(path), path.parent)
    write_whole(path, text.encode(), mode=path.stat().st_mode & 0o777)
    return f"passthrough is {word} in {path}; carry it out with: certsync deploy {path}"

"""`certsync passthrough on|off`: set it in the fleet file; the next deploy applies it."""

from __future__ import annotations

from pathlib import Path

import tomlkit

from certsync.operator.deployment.plan import HERE, FileChange, Plan, Step
from certsync.operator.fleet_file import opened, parse_fleet
from certsync.operator.fleet_file.editing import write


def plan(path: Path, *, on: bool) -> Plan:
    """Return what the command would do; nothing is changed.

    Raises:
        FleetFileError: the file has mistakes.
    """
    file = opened(path)
    if file.fleet.passthrough is on:
        return Plan()
    before = file.text
    document = tomlkit.parse(before)
    document["passthrough"] = on
    after = tomlkit.dumps(document)
    parse_fleet(after, str(path), path.parent)
    step = Step("the fleet file", HERE, f"set passthrough = {str(on).lower()} in {path}")
    return Plan((step,), (FileChange(HERE, str(path), before, after),))


def passthrough(path: Path, *, on: bool, done: list[Step]) -> str:
    """Set it in a fleet file, keep its comments, and return what to do next.

    ``done`` gets what was changed.

    Raises:
        FleetFileError: the file has mistakes; it is left unchanged.
    """
    word = "on" if on else "off"
    wanted = plan(path, on=on)
    if not wanted.files:
        return f"passthrough is already {word} in {path}"
    write(path, wanted.files[0].after)
    done += wanted.steps
    return f"passthrough is {word} in {path}; apply it with: certsync deploy {path}"

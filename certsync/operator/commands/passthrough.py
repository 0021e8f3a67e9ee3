"""`certsync passthrough on|off`: write it into the fleet file; the next deploy applies it."""

from __future__ import annotations

from pathlib import Path

import tomlkit

from certsync.operator.deployment.plan import HERE, FileChange, Plan, Step
from certsync.operator.fleet_file import opened, parse_fleet
from certsync.operator.fleet_file.editing import write


def plan(path: Path, *, on: bool) -> Plan:
    """Return what setting it would do; nothing is changed.

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
    step = Step("the fleet file", HERE, f"write passthrough = {str(on).lower()} into {path}")
    return Plan((step,), (FileChange(HERE, str(path), before, after),))


def passthrough(path: Path, *, on: bool, done: list[Step]) -> str:
    """Set it in a fleet file, its comments kept, and return what to do next.

    ``done`` gets what was changed.

    Raises:
        FleetFileError: the file has mistakes; it is left as it is.
    """
    word = "on" if on else "off"
    wanted = plan(path, on=on)
    if not wanted.files:
        return f"passthrough is {word} in {path} already"
    write(path, wanted.files[0].after)
    done += wanted.steps
    return f"passthrough is {word} in {path}; carry it out with: certsync deploy {path}"

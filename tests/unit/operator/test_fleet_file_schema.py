"""The fleet file's keys are the fields of the fleet's dataclasses: a new one is written once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from certsync.operator.fleet_file.places import NAME, Keys, fleet_of
from certsync.operator.fleet_file.schema import FILE, RULES

NEWER = """\
import dataclasses, enum, json, sys
from pathlib import Path

from certsync.model import fleet, options


class Pace(str, enum.Enum):
    SLOW = "slow"
    FAST = "fast"


def wider(kind, *added):
    return dataclasses.make_dataclass(kind.__name__, added, bases=(kind,), frozen=True)


options.Balancing = wider(
    options.Balancing, ("eager", bool, False), ("pace", Pace, Pace.SLOW), ("most", int, 5),
    ("words", tuple[str, ...], ()),
)
fleet.Fleet = wider(fleet.Fleet, ("balancing", options.Balancing, options.Balancing()))

from certsync.model.errors import FleetFileError
from certsync.operator.fleet_file import parse_fleet

try:
    found = parse_fleet(sys.stdin.read(), "fleet.toml", Path("/nowhere")).to_json()["balancing"]
    print(json.dumps({key: found[key] for key in ("eager", "pace", "most", "words")}))
except FleetFileError as error:
    print(json.dumps([dataclasses.astuple(each) for each in error.mistakes]))
"""
"""A certsync whose dataclass has four more fields, and that was changed nowhere else."""

GOOD = """\
names = ["www.example.com"]
public_addresses = ["203.0.113.10"]
[ca]
agree_to_terms = true
[balancers.balancer-01]
address = "203.0.113.10"
[backends.backend-01]
address = "203.0.113.11"
[balancing]
"""
BARE = "write it without quotes"
QUOTED = "write it in quotes"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        pytest.param("", {"eager": False, "pace": "slow", "most": 5, "words": []}, id="default"),
        pytest.param(
            'eager = true\npace = "fast"\nmost = 7\nwords = ["a", "b"]',
            {"eager": True, "pace": "fast", "most": 7, "words": ["a", "b"]},
            id="said",
        ),
        pytest.param(
            'eager = "yes"\npace = "quick"\nmost = true\nwords = ["a", 5]\neagre = true',
            [
                [
                    "balancing.eager",
                    "must be true or false, not a string",
                    "write it without quotes",
                ],
                ["balancing.pace", 'unknown value "quick"', "write one of: slow, fast"],
                [
                    "balancing.most",
                    "must be a whole number, not true or false",
                    "write it without quotes or a fraction",
                ],
                ["balancing.words", "entry 2 must be a string, not a whole number", QUOTED],
                ["balancing.eagre", "unknown key", "did you mean `eager`?"],
            ],
            id="mistaken",
        ),
        pytest.param(
            'words = ["a", "b", "a"]',
            [["balancing.words", '"a" is listed twice', "keep one of them"]],
            id="twice",
        ),
    ],
)
def test_a_field_that_a_dataclass_gets_is_a_key_of_the_file(lines: str, said: Any) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NEWER], input=GOOD + lines, capture_output=True, text=True
    )
    assert ended.stderr == ""
    assert json.loads(ended.stdout) == said


def keys_in(table: Keys, *above: str) -> Iterator[tuple[str, ...]]:
    for key, inside in table.items():
        if isinstance(inside, dict):
            yield from keys_in(inside, *above, key)
        else:
            yield (*above, key)


@pytest.mark.parametrize("place", list(keys_in(FILE)), ids=".".join)
def test_every_key_of_the_file_arrives_in_the_fleet(place: tuple[str, ...]) -> None:
    said: Keys = {"backends": {NAME: {}}}
    table = said
    for name in place[:-1]:
        table = table.setdefault(name, {})
    table[place[-1]] = {"what": "no field takes"}
    if place == ("ca", "agree_to_terms"):
        fleet_of(said, Path("/nowhere"))
    else:
        with pytest.raises(ValueError, match=r"Expected `.+`, got `object`"):
            fleet_of(said, Path("/nowhere"))


def test_every_rule_is_of_a_field_that_is_there() -> None:
    assert [
        (kind, key)
        for kind, rules in RULES.items()
        for key in rules
        if key not in {each.name for each in fields(kind)}
    ] == []

"""Values to JSON and back, in whichever version they were written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from certsync.model import codec
from certsync.model.codec import Moment
from tests.unit.fake_fleet import NOW


class Colour(str, Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    """A value in a value."""

    at: Moment
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Whole:
    """A value with something of everything."""

    name: str
    seconds: float | None = None
    ended: Moment | None = None
    colours: tuple[Colour, ...] = ()
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, Part] = field(default_factory=dict)


FULL = Whole(
    "full", 1.5, NOW, (Colour.BLUE, Colour.RED), (Part(NOW),), {"a": Part(NOW, Colour.BLUE)}
)


@pytest.mark.parametrize("value", [FULL, Whole("empty")], ids=lambda value: value.name)
def test_a_value_is_read_as_it_was_written(value: Whole) -> None:
    assert codec.typed(json.loads(json.dumps(codec.plain(value))), Whole) == value


def test_what_is_written_is_plain() -> None:
    at = "2026-11-21T12:00:00+00:00"
    assert codec.plain(FULL) == {
        "name": "full",
        "seconds": 1.5,
        "ended": at,
        "colours": ["blue", "red"],
        "parts": [{"at": at, "colour": "red"}],
        "by_name": {"a": {"at": at, "colour": "blue"}},
    }
    assert codec.plain(Whole("empty"))["ended"] is None
    assert codec.plain((Part(NOW),)) == [{"at": at, "colour": "red"}]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21T12:00:00+00:00", NOW),
        ("2026-11-21T12:00:00Z", NOW),
        ("2026-11-21T14:00:00.5+02:00", NOW + timedelta(seconds=0.5)),
    ],
)
def test_a_moment_is_read_in_every_form(text: str, moment: datetime) -> None:
    assert codec.typed({"at": text}, Part).at == moment


def test_a_moment_in_utc_is_written_without_a_z() -> None:
    assert codec.plain(NOW) == "2026-11-21T12:00:00+00:00"
    read = codec.typed({"at": "2026-11-21T12:00:00Z"}, Part)
    assert codec.plain(read)["at"] == "2026-11-21T12:00:00+00:00"


@pytest.mark.parametrize("text", ["2026-11-21T12:00:00", "2026-11-21", "soon", "", 5, None])
def test_a_moment_without_a_time_zone_is_refused_and_so_is_what_is_none(text: Any) -> None:
    with pytest.raises(ValueError, match=r"`\$\.parts\[0\]\.at`"):
        codec.typed({"name": "a", "parts": [{"at": text}]}, Whole)


def test_what_is_left_out_has_its_default() -> None:
    assert codec.typed({"name": "empty"}, Whole) == Whole("empty")
    assert codec.typed({"at": NOW.isoformat()}, Part) == Part(NOW, Colour.RED)


def test_what_has_its_default_is_written_too() -> None:
    assert codec.plain(codec.typed({"name": "empty"}, Whole)) == codec.plain(Whole("empty"))


def test_what_is_there_besides_is_ignored() -> None:
    data = {"name": "empty", "mood": "good", "parts": [{"at": NOW.isoformat(), "mood": "bad"}]}
    assert codec.typed(data, Whole) == Whole("empty", parts=(Part(NOW),))


@pytest.mark.parametrize(
    "data",
    [
        [], "text", None, {}, {"name": 5}, {"name": "a", "seconds": "1.5"},
        {"name": "a", "colours": ["green"]}, {"name": "a", "colours": "red"},
        {"name": "a", "parts": {}}, {"name": "a", "by_name": []}, {"name": "a", "by_name": None},
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"^(Expected|Object missing|Invalid enum)"):
        codec.typed(data, Whole)

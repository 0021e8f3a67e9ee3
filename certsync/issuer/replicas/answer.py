"""What a backend's receiver answers, as a value. A replica may send us anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from certsync.programs import receiver
from certsync.system import process

NO_SUCH_VERB = "no such verb"
"""How a receiver of before its refusals had a code for it refuses what it does not know."""


@dataclass(frozen=True)
class Answer:
    """One line of a conversation."""

    ok: bool
    why: str = ""
    """Why it refuses, printable."""

    of_content: bool = False
    """Whether it refuses because of the generation, and not because of the host."""

    is_older: bool = False
    """Whether it refuses because its receiver knows no such verb."""

    current: str = ""
    """The number of the live generation; empty: there is none, or nothing was said of it."""

    before: str = ""
    """What was live before."""

    generations: Mapping[str, str] = field(default_factory=dict)
    """Number to the leaf's SHA-256 in hex, of what it holds."""


def parsed(text: str) -> Answer | None:
    """Return a receiver's answer; None: it is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("ok"), bool):
        return None
    generations = data.get("generations", {})
    if not isinstance(generations, dict):
        return None
    code, why = data.get("code"), process.printable(str(data.get("why", "")))
    return Answer(
        data["ok"],
        why,
        # A receiver of an older version has no code.
        code == receiver.Unfit.code,
        code == receiver.Unknown.code or why == NO_SUCH_VERB,
        _number(data.get("current")),
        _number(data.get("before")),
        {number: str(generations[number]) for number in _numbers(generations)},
    )


def _number(said: object) -> str:
    return next(iter(_numbers([said])), "")


def _numbers(said: Iterable[object]) -> list[str]:
    """Return those of a receiver's words that are a generation's number."""
    return [each for each in said if isinstance(each, str) and receiver.NUMBER.fullmatch(each)]

"""A receiver's answer, as a value. A replica may send anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from certsync.model import epoch
from certsync.model.epoch import Epoch
from certsync.programs import receiver
from certsync.system import process

NO_SUCH_VERB = "no such verb"
"""How an older receiver, without a code for it, refuses an unknown verb."""


@dataclass(frozen=True)
class Answer:
    """One line of a conversation."""

    ok: bool
    why: str = ""
    """Why it refuses, made printable."""

    of_content: bool = False
    """Whether it refuses because of the generation, not because of the host."""

    is_older: bool = False
    """Whether it refuses because its receiver does not know the verb."""

    current: str = ""
    """The number of the live generation; empty: none, or not reported."""

    before: str = ""
    """The number that was live before."""

    generations: Mapping[str, str] = field(default_factory=dict)
    """The generations it holds: number to the manifest's SHA-256 in hex."""

    epoch: Epoch | None = None
    """That of the issuer whose push key it accepts; None: not reported."""


def parsed(text: str) -> Answer | None:
    """Parse a receiver's answer; None: it is not one."""
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
        # An older receiver sends no code.
        code == receiver.Unfit.code,
        code == receiver.Unknown.code or why == NO_SUCH_VERB,
        _number(data.get("current")),
        _number(data.get("before")),
        {number: str(generations[number]) for number in _numbers(generations)},
        epoch.in_text(str(data.get("epoch"))),
    )


def _number(word: object) -> str:
    return next(iter(_numbers([word])), "")


def _numbers(words: Iterable[object]) -> list[str]:
    """Return those of a receiver's words that are generation numbers."""
    return [each for each in words if isinstance(each, str) and receiver.NUMBER.fullmatch(each)]

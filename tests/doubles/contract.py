"""A provider's API on this machine, with a state: it refuses what the provider would refuse.

How to write a double of a provider:

1. `schemas/<provider>.json`, by hand from the facts, never copied from the provider's document:
   ``operations`` by `METHOD /path/{part}`, each with ``body`` and ``query`` (both may be missing:
   then the request has none) and ``answers`` by status; ``error``, the schema of each answer from
   400 on; ``named``, the schemas that others refer to. See `schema.py` for the words.
2. A subclass of `Double` with ``schema``, ``state`` (JSON values: all that the provider keeps),
   `operations` and `error`. An operation gets an `Ask`, whose form has been held against the
   schema already, changes ``self.state``, and returns an `Answer`; or it raises `Refusal`. It has
   what only prose and issues tell, each line with its source.
3. `with serve(double) as base:` runs it. ``base`` is what stands before a path's first slash.

A test then looks at three things: ``double.calls`` (what was asked, and what that changed),
``double.state`` (with `differences`, field by field), and ``double.refused`` (requests that
broke the schema: there must be none). An answer of the double's own that breaks the schema fails
the test when `serve` ends.

`Fault`s in ``double.faults`` make it fail as providers do.
"""

from __future__ import annotations

import json
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.doubles import server
from tests.doubles.schema import Schema, mistakes
from tests.doubles.server import Around, listening

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True)
class Ask:
    """A request whose form is right."""

    parts: Mapping[str, str]
    """What stands in the path's places, by their names."""

    query: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the double says. ``body`` None: nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An operation refuses: with a status, in words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


@dataclass(frozen=True)
class Call:
    """One request, and what became of it."""

    method: str
    path: str
    body: Any
    status: int
    """What was answered; 0: the connection was cut."""

    changed: Mapping[str, tuple[Any, Any]]
    """What it changed: place to what was there before and is there now. See `differences`."""


@dataclass
class Fault:
    """Something that goes wrong at the first request that fits, or for a while from then on."""

    on: str
    """Which requests: `PUT *`, `GET /v4/things/*`; see `fnmatch`."""

    status: int = 0
    """What is answered instead; 0: what the double answers."""

    words: str = "the provider's words"
    headers: Mapping[str, str] = field(default_factory=dict)
    carried_out: bool = False
    """Whether the request is carried out all the same, before this answer."""

    cut: bool = False
    """Whether the connection is cut once the request was carried out: no answer."""

    seconds: float = 0
    """For how long, by the double's clock; 0: once."""

    passing: int = 0
    """How many fitting requests pass before it."""

    meanwhile: Callable[[Any], None] | None = None
    """What another writer changes in the state, right before the request is looked at."""

    until: float | None = None
    """When it ends; None: it was not met yet. Set by the double."""


def met(faults: list[Fault], what: str, now: float) -> Fault | None:
    """Return the fault that a request meets; one that is over is taken out of ``faults``."""
    for fault in list(faults):
        if not fnmatch(what, fault.on):
            continue
        if fault.passing:
            fault.passing -= 1
            continue
        if fault.until is None:
            fault.until = now + fault.seconds
        if not fault.seconds or now >= fault.until:
            faults.remove(fault)
        if not fault.seconds or now < fault.until:
            return fault
    return None


class Double(ABC):
    """A provider. Subclasses say what it is; see the module."""

    schema: Mapping[str, Any]
    state: Any

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self.token = token
        self.now = now
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.broken: list[str] = []

    @abstractmethod
    def operations(self) -> Mapping[str, Callable[[Ask], Answer]]:
        """Return what answers each operation of the schema."""

    @abstractmethod
    def error(self, status: int, words: str) -> Answer:
        """Return an error in the provider's form."""

    @property
    def changing(self) -> list[Call]:
        """Return the calls that could have changed something: all but reading ones."""
        return [each for each in self.calls if each.method != "GET"]

    def take(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Answer | None:
        """Answer one request; None: the connection is to be cut."""
        split = urlsplit(target)
        fault = met(self.faults, f"{method} {split.path}", self.now())
        if fault and fault.meanwhile:
            fault.meanwhile(self.state)
        before = deepcopy(self.state)
        body = json.loads(content) if content else None
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        answer: Answer | None = None
        if not fault or not fault.status or fault.carried_out:
            answer = self._answer(method, split.path, headers, query, body)
        if fault and fault.status:
            made = self.error(fault.status, fault.words)
            answer = Answer(made.status, made.body, {**made.headers, **fault.headers})
        if fault and fault.cut:
            answer = None
        status = answer.status if answer else 0
        changed = differences(before, self.state)
        self.calls.append(Call(method, split.path, body, status, changed))
        return answer

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], query: dict[str, str], body: Any
    ) -> Answer:
        if headers.get("Authorization") != f"Bearer {self.token}":
            return self._own(self.error(401, "Unable to authenticate you"), {}, f"{method} {path}")
        found = self._operation(method, path)
        if not found:
            self.refused.append(f"{method} {path}: there is no such operation")
            return self._own(self.error(404, "there is nothing here"), {}, f"{method} {path}")
        name, parts = found
        form = self.schema["operations"][name]
        if wrong := self._wrong(form, query, body):
            self.refused += [f"{name}: {each}" for each in wrong]
            return self._own(self.error(422, "; ".join(wrong)), form, name)
        try:
            answer = self.operations()[name](Ask(parts, query, body))
        except Refusal as refusal:
            answer = self.error(refusal.status, refusal.words)
        return self._own(answer, form, name)

    def _operation(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        for name in self.schema["operations"]:
            verb, _, pattern = name.partition(" ")
            places = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
            if verb == method and (match := re.fullmatch(places, path)):
                return name, match.groupdict()
        return None

    def _wrong(self, form: Mapping[str, Any], query: dict[str, str], body: Any) -> list[str]:
        named: Mapping[str, Schema] = self.schema["named"]
        asked = {name: int(each) if each.isdecimal() else each for name, each in query.items()}
        wrong = mistakes({"properties": form.get("query", {})}, asked, named, "the query")
        if "body" in form:
            return wrong + mistakes(form["body"], body, named)
        return wrong + ([] if body is None else ["there is a body, and none is wanted"])

    def _own(self, answer: Answer, form: Mapping[str, Any], name: str) -> Answer:
        """Hold an answer of our own against the schema, and return it."""
        told = form.get("answers", {}).get(str(answer.status))
        if answer.status >= 400:
            told = self.schema["error"]
        if told is None:
            wrong = [] if answer.body is None and answer.status == 204 else ["not in the schema"]
        else:
            wrong = mistakes(told, answer.body, self.schema["named"], "the answer")
        self.broken += [f"{name}: {answer.status}: {each}" for each in wrong]
        return answer


def schema_of(provider: str) -> Mapping[str, Any]:
    """Return a provider's schema."""
    found: Mapping[str, Any] = json.loads((SCHEMAS / f"{provider}.json").read_text())
    return found


def differences(before: Any, after: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Return where JSON differs: place (`balancer.rules`) to both values; a list is one value."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in sorted({*before, *after}):
            found |= differences(before.get(name), after.get(name), f"{place}.{name}".strip("."))
        return found
    return {} if before == after else {place: (deepcopy(before), deepcopy(after))}


@contextmanager
def serve(
    double: Double, on: Callable[[], socket.socket] = listening, around: Around = nullcontext
) -> Iterator[str]:
    """Run a double that answers all of its schema: see `server.serve`."""
    assert set(double.operations()) == set(double.schema["operations"])
    with server.serve(double, on, around) as base:
        yield base

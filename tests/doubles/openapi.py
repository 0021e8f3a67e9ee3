"""Hold a schema of ours against the provider's own document: all that we use has to be there.

The documents are not ours to hand on, so they are no part of this repository. They are compared
where they are at hand: in the folder that CERTSYNC_OPENAPI names, or in `../shared/openapi` beside
the checkout, as `<provider>-<anything>.json`. What a document does not have, and we know from
elsewhere, has a ``source`` in our schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BOUNDS = {"minimum": 1, "maximum": -1, "minItems": 1, "maxItems": -1}
"""Bound to the sign by which a greater one is stricter."""


def folder() -> Path | None:
    """Return the folder with the providers' documents; None: they are not at hand."""
    if named := os.environ.get("CERTSYNC_OPENAPI"):
        assert Path(named).is_dir(), f"CERTSYNC_OPENAPI names no folder: {named}"
        return Path(named)
    found = ROOT.parent / "shared/openapi"
    return found if found.is_dir() else None


@dataclass
class View:
    """What a document allows at one place, whichever way it says so."""

    types: set[str] = field(default_factory=set)
    """Empty: any."""

    enum: list[Any] = field(default_factory=list)
    """Empty: anything."""

    required: set[str] = field(default_factory=set)
    properties: dict[str, list[Any]] = field(default_factory=dict)
    items: list[Any] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    read_only: bool = False


def differences_to(ours: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Return what a schema of ours has that the document has not, or refuses."""
    return list(_Comparison(ours, document).all())


class _Comparison:
    def __init__(self, ours: Mapping[str, Any], document: Mapping[str, Any]) -> None:
        self.ours, self.document = ours, document

    def all(self) -> Iterator[str]:
        for name, form in self.ours["operations"].items():
            if "source" in form:
                continue
            theirs = self._operation(name)
            if theirs is None:
                yield f"{name} is not there"
                continue
            if "body" in form:
                body = self._content(theirs.get("requestBody") or {})
                yield from self._compare(form["body"], [body], f"{name}: body", asked=True)
            yield from self._query(name, form, theirs)
            for status, told in form["answers"].items():
                answer = theirs["responses"].get(status)
                if answer is None:
                    yield f"{name} does not answer {status}"
                elif told is not None:
                    said = self._content(answer)
                    yield from self._compare(told, [said], f"{name}: {status}", asked=False)
            if failure := theirs["responses"].get("default") or theirs["responses"].get("4xx"):
                error = self._content(failure)
                yield from self._compare(self.ours["error"], [error], f"{name}: error", asked=False)

    def _operation(self, name: str) -> Any:
        verb, _, path = name.partition(" ")
        plain = re.sub(r"\{\w+\}", "{}", path)
        for each, operations in self.document["paths"].items():
            # A document may leave out what all paths begin with, or name the version in braces.
            theirs = re.sub(r"\{\w+\}", "{}", each.replace("{apiVersion}", "v4"))
            if theirs == plain:
                return operations.get(verb.lower())
        return None

    def _query(self, name: str, form: Mapping[str, Any], theirs: Any) -> Iterator[str]:
        parameters = [self._resolved(each) for each in theirs.get("parameters", ())]
        known = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
        for each, schema in form.get("query", {}).items():
            if each not in known:
                yield f"{name}: query: there is no {each}"
            else:
                yield from self._compare(schema, [known[each]], f"{name}: {each}", asked=True)

    def _content(self, holder: Any) -> Any:
        content = self._resolved(holder).get("content") or {}
        return (content.get("application/json") or {}).get("schema") or {}

    def _resolved(self, schema: Any) -> Any:
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        return schema

    def _compare(self, ours: Any, theirs: list[Any], place: str, *, asked: bool) -> Iterator[str]:
        if "$ref" in ours:
            ours = self.ours["named"][ours["$ref"]]
        if "source" in ours:
            return
        view = self._either(theirs)
        yield from _of_a_value(ours, view, place, asked=asked)
        if asked and "object" in view.types:
            missing = view.required - set(ours.get("required", ()))
            yield from (f"{place}: {each} is required there" for each in sorted(missing))
        for name, schema in ours.get("properties", {}).items():
            if name in view.properties:
                inner = view.properties[name]
                yield from self._compare(schema, inner, f"{place}.{name}", asked=asked)
            elif "source" not in schema:
                yield f"{place}: there is no {name}"
        if "items" in ours and view.items:
            yield from self._compare(ours["items"], view.items, f"{place}[]", asked=asked)

    def _either(self, schemas: list[Any]) -> View:
        """Return what any of these allows: together what they name, required what all require."""
        views = [self._view(each) for each in schemas]
        made = views[0]
        for each in views[1:]:
            made = _joined(made, each, made.required & each.required)
        return made

    def _view(self, schema: Any) -> View:
        schema = self._resolved(schema)
        types = {schema["type"]} if "type" in schema else set()
        if "properties" in schema:
            types.add("object")
        made = View(
            types,
            list(schema.get("enum", ())),
            set(schema.get("required", ())),
            {name: [each] for name, each in schema.get("properties", {}).items()},
            [schema["items"]] if "items" in schema else [],
            {name: schema[name] for name in BOUNDS if name in schema},
            bool(schema.get("readOnly")),
        )
        for each in schema.get("allOf", ()):
            inner = self._view(each)
            made = _joined(made, inner, made.required | inner.required)
        for word in ("oneOf", "anyOf"):
            if schema.get(word):
                inner = self._either(schema[word])
                made = _joined(made, inner, made.required | inner.required)
        if made.types and schema.get("nullable"):
            made.types.add("null")
        return made


def _joined(one: View, other: View, required: set[str]) -> View:
    properties = {
        name: [*one.properties.get(name, ()), *other.properties.get(name, ())]
        for name in {*one.properties, *other.properties}
    }
    return View(
        one.types | other.types,
        [*one.enum, *other.enum],
        required,
        properties,
        [*one.items, *other.items],
        {**one.bounds, **other.bounds},
        one.read_only or other.read_only,
    )


def _of_a_value(ours: Any, view: View, place: str, *, asked: bool) -> Iterator[str]:
    types = ours.get("type", [])
    types = {types} if isinstance(types, str) else set(types)
    allowed = view.types | ({"integer"} if "number" in view.types else set())
    if view.types and not types <= allowed:
        yield f"{place} is {sorted(view.types)} there, not {sorted(types)}"
    if view.enum and (strange := [each for each in ours.get("enum", ()) if each not in view.enum]):
        yield f"{place} is none of {strange} there"
    if not asked:
        return
    if view.read_only:
        yield f"{place} is only read there"
    if view.enum and "enum" not in ours and len(view.enum) < 10:
        yield f"{place} is one of {view.enum} there"
    for name, sign in BOUNDS.items():
        if name in view.bounds and not _as_strict(ours.get(name), view.bounds[name], sign):
            yield f"{place} has {name} {view.bounds[name]} there"


def _as_strict(ours: float | None, theirs: float, sign: int) -> bool:
    return ours is not None and ours * sign >= theirs * sign

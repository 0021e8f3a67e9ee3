"""Hold JSON against a schema of our own, and refuse every name that the schema does not have.

The words are JSON Schema's, and few: type (a name, or a list of them), enum, minimum, maximum,
pattern, items, minItems, maxItems, properties and required. Three are ours:

- an object takes no other names than its properties, as providers' documents leave objects open
  and so let a misspelt name pass;
- ``one_of``: names of which an object has exactly one;
- ``source``: where a field is from that is not in the provider's own document.

``{"$ref": "name"}`` stands for the schema of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,), "boolean": (bool,), "integer": (int,), "null": (type(None),),
    "number": (int, float), "object": (dict,), "string": (str,),
}  # fmt: skip

WORDS = {
    "$ref", "type", "enum", "minimum", "maximum", "pattern", "items", "minItems", "maxItems",
    "properties", "required", "one_of", "source",
}  # fmt: skip


def mistakes(schema: Schema, value: Any, named: Mapping[str, Schema], place: str = "") -> list[str]:
    """Return what is wrong with a value, each with its place; empty: nothing."""
    return list(_mistakes(schema, value, named, place or "the body"))


def _mistakes(schema: Schema, value: Any, named: Mapping[str, Schema], place: str) -> Iterator[str]:
    assert set(schema) <= WORDS, f"{place}: the schema itself has {sorted(set(schema) - WORDS)}"
    if "$ref" in schema:
        yield from _mistakes(named[schema["$ref"]], value, named, place)
        return
    if "type" in schema and not _is_of(schema["type"], value):
        yield f"{place} is no {schema['type']}: {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} is none of {schema['enum']}: {value!r}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{place} does not match {schema['pattern']}: {value!r}"
    if isinstance(value, (int, float)) and not _within(schema, "minimum", "maximum", value):
        yield f"{place} is out of its range: {value!r}"
    if isinstance(value, list):
        if not _within(schema, "minItems", "maxItems", len(value)):
            yield f"{place} has {len(value)} items"
        for index, each in enumerate(value):
            yield from _mistakes(schema["items"], each, named, f"{place}[{index}]")
    if isinstance(value, dict):
        yield from _of_an_object(schema, value, named, place)


def _of_an_object(
    schema: Schema, value: Mapping[str, Any], named: Mapping[str, Schema], place: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (
        f"{place} has no {each}" for each in schema.get("required", ()) if each not in value
    )
    yield from (f"{place} has an unknown {each}" for each in value if each not in properties)
    if (either := schema.get("one_of")) and sum(each in value for each in either) != 1:
        yield f"{place} has not exactly one of {', '.join(either)}"
    for name in properties.keys() & value.keys():
        yield from _mistakes(properties[name], value[name], named, f"{place}.{name}")


def _is_of(types: str | list[str], value: Any) -> bool:
    names = [types] if isinstance(types, str) else types
    # True is an int to Python, and none to JSON.
    allowed = {each for name in names for each in TYPES[name]}
    return type(value) in allowed


def _within(schema: Schema, least: str, most: str, value: float) -> bool:
    return bool(schema.get(least, value) <= value <= schema.get(most, value))

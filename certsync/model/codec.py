"""Values to JSON-compatible data and back: the one place that serializes.

The types define the form: tuples are lists, enumerations their values, moments ISO 8601 with a time
zone. Missing fields get their defaults, extra ones are ignored, and anything invalid is an error
that says where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, TypeVar

import msgspec

Value = TypeVar("Value")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with a time zone; without one it cannot be compared."""

NOT_THESE = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
"""What decoding JSON of another shape raises."""


def plain(value: Any) -> Any:
    """Return a value, or a container of values, as data for `json.dumps`, with defaults."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        # Python 3.10's `fromisoformat`, which earlier versions use, does not accept Z for UTC.
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def typed(data: Any, kind: type[Value]) -> Value:
    """Decode what `plain` produced, perhaps in another version.

    Raises:
        ValueError: the data does not fit the type; the message says where.
    """
    return msgspec.convert(data, kind)

"""Values to what `json.dumps` takes, and back: one place for every form that leaves a process.

The types say all of it: tuples are lists, enumerations their values, moments ISO 8601 with a time
zone. What is left out has its default, what is there besides is ignored, and what cannot be is an
error that says where.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

Value = TypeVar("Value")
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with a time zone: one without cannot be compared."""

NOT_THESE = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
"""What comes of taking apart JSON that is something else."""


def plain(value: Any) -> Any:
    """Return a value, or a container of values, as what `json.dumps` takes."""
    return _written(msgspec.to_builtins(value, builtin_types=(datetime,)))


def _written(data: Any) -> Any:
    if isinstance(data, datetime):
        # Python 3.10's `fromisoformat`, which earlier versions read with, knows no Z for UTC.
        return data.isoformat()
    if isinstance(data, dict):
        return {key: _written(each) for key, each in data.items()}
    if isinstance(data, (list, tuple)):
        return [_written(each) for each in data]
    return data


def typed(data: Any, kind: type[Value]) -> Value:
    """Return the value of a type that `plain` has made this of, perhaps in another version.

    Raises:
        ValueError: it is something else; the message says where.
    """
    return msgspec.convert(data, kind)

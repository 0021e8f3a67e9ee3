"""A change that one command makes to a fleet: backends added or removed, a new issuer. Pure.

The fleet file does not contain it yet, or no longer does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certsync.model.fleet import Machine


@dataclass(frozen=True)
class Addition:
    """A backend to add."""

    name: str
    address: str
    private_address: str = ""
    """Empty: the same as `address`."""

    serves: tuple[str, ...] = ()
    """First names of the lineages whose `served_by` it is added to."""


@dataclass(frozen=True)
class Change:
    """What changes in the fleet file's fleet."""

    add: tuple[Addition, ...] = ()
    remove: tuple[str, ...] = ()
    issuer: str = ""
    """The backend that becomes the issuer; empty: no change."""

    departing: tuple[Machine, ...] = ()
    """Backends that leave, known to the issuer but missing from the fleet file."""


NONE = Change()


def named(
    words: Sequence[str], private_address: str = "", serves: Sequence[str] = ()
) -> tuple[Addition, ...]:
    """Parse `NAME ADDRESS` or `NAME=ADDRESS NAME=ADDRESS …`.

    ``serves`` are the lineages that each of them will serve.

    Raises:
        ValueError: it is neither form.
    """
    pairs = [word.partition("=") for word in words]
    if all(equals for _, equals, _ in pairs):
        if private_address and len(pairs) > 1:
            raise ValueError("--private-address works with one backend only; several are given")
        return tuple(
            Addition(name, address, private_address, tuple(serves)) for name, _, address in pairs
        )
    if len(words) == 2 and not any(equals for _, equals, _ in pairs):
        return (Addition(words[0], words[1], private_address, tuple(serves)),)
    raise ValueError("give one backend as NAME ADDRESS, or several as NAME=ADDRESS")

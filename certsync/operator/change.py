"""A change of a fleet that one command makes: machines that come and go, the issuer. Pure.

The fleet file does not say it yet, or not any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certsync.model.fleet import Machine


@dataclass(frozen=True)
class Addition:
    """A backend that comes."""

    name: str
    address: str
    private_address: str = ""
    """Empty: the same as `address`."""

    serves: tuple[str, ...] = ()
    """The lineages, by their first names, whose `served_by` is to name it; others need not."""


@dataclass(frozen=True)
class Change:
    """What becomes of a fleet file's fleet."""

    add: tuple[Addition, ...] = ()
    remove: tuple[str, ...] = ()
    issuer: str = ""
    """The backend that becomes the issuer; empty: who it is."""

    departing: tuple[Machine, ...] = ()
    """Backends that leave and that the fleet file does not name: the issuer still knows them."""


NONE = Change()


def named(
    words: Sequence[str], private_address: str = "", serves: Sequence[str] = ()
) -> tuple[Addition, ...]:
    """Return what `NAME ADDRESS` or `NAME=ADDRESS NAME=ADDRESS …` asks for.

    ``serves`` are the lineages that each of them is to serve.

    Raises:
        ValueError: it is neither; the message says what was found.
    """
    pairs = [word.partition("=") for word in words]
    if all(equals for _, equals, _ in pairs):
        if private_address and len(pairs) > 1:
            raise ValueError("--private-address belongs to one backend, and several are named")
        return tuple(
            Addition(name, address, private_address, tuple(serves)) for name, _, address in pairs
        )
    if len(words) == 2 and not any(equals for _, equals, _ in pairs):
        return (Addition(words[0], words[1], private_address, tuple(serves)),)
    raise ValueError("name one backend as NAME ADDRESS, or several as NAME=ADDRESS")

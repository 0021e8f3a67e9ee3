"""Session ticket keys: when a set is replaced, and who is to be given it. Pure decisions.

A set has three keys. nginx encrypts with `current` and decrypts with all, so a key is known
everywhere before anybody uses it, and for as long after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certsync.model.codec import Moment
from certsync.programs.receiver import CLOCK_TOLERANCE

SCHEMA = 1
LIFETIME = timedelta(days=1)
"""How long a set is used."""

LONGEST = 2 * LIFETIME
"""How long, though somebody lacks it: one broken backend must not keep a key in use for ever."""


@dataclass(frozen=True)
class Keys:
    """A set of keys."""

    current: bytes = field(repr=False)
    next: bytes = field(repr=False)
    previous: bytes = field(repr=False)

    def rotated(self, fresh: bytes) -> Keys:
        """Return the set that follows this one."""
        return Keys(self.next, fresh, self.current)

    def files(self) -> dict[str, bytes]:
        """Return the set as nginx reads it, by the names of its files."""
        return {f"{name}.key": content for name, content in vars(self).items()}

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Keys:
        """Return what `files` gave."""
        return cls(files["current.key"], files["next.key"], files["previous.key"])


@dataclass(frozen=True)
class Note:
    """What the issuer knows of the set it has."""

    made: Moment
    """When it was made, or first called the fleet's own."""

    reached: tuple[str, ...] = ()
    """Who has been given it."""

    against: tuple[str, ...] = ()
    """The compromises that were known then: it has none of the keys that were lost in them."""

    schema: int = SCHEMA


@dataclass(frozen=True)
class Seen:
    """The fleet, as it is known before anything is done."""

    replicas: Sequence[str]
    """All that may have the keys."""

    serving: Collection[str] = ()
    """Those that serve what they should. All others are not given keys: that has its own cure."""

    not_resuming: Collection[str] = ()
    """Those that do not take a ticket of the issuer's, though they serve the same certificate."""

    compromises: Collection[str] = ()
    """Who has taken keys along, and when."""


@dataclass(frozen=True)
class Plan:
    """What is to be done: the steps in this order."""

    push: tuple[str, ...] = ()
    """Who is given the set that is there."""

    replace: bool = False
    """Whether all three keys are made anew, and given to every replica."""

    rotate: bool = False
    """Whether a new key is made, and the set given to everybody who serves."""

    despite_unreachable: bool = False
    """Whether that is done although somebody could not be given the set before."""

    def steps(self) -> list[str]:
        """Return what is to be done, in words; nothing: all share the keys."""
        steps = [f"{name}: push the session ticket keys" for name in self.push]
        if self.replace:
            steps.append("make all session ticket keys anew and push them to every replica")
        if self.rotate:
            steps.append("rotate the session ticket keys and push them to every replica")
        return steps


def plan(note: Note | None, seen: Seen, now: datetime, *, interactive: bool = False) -> Plan:
    """Return what is to be done.

    ``note`` is of the set that the issuer has; None: nobody has been given it yet, and it becomes
    the fleet's now. ``interactive``: somebody wants a rotation.
    """
    if not set(seen.compromises) <= set(note.against if note else ()):
        return Plan(replace=True)
    known = note.reached if note else ()
    push = tuple(
        name
        for name in seen.replicas
        if name in seen.serving and (name not in known or name in seen.not_resuming)
    )
    age = now - note.made if note else timedelta(0)
    # A set from the future was made under a wrong clock, and nobody knows how long it has served.
    too_old = age >= LONGEST or age < -timedelta(seconds=CLOCK_TOLERANCE)
    return Plan(
        push,
        rotate=interactive or too_old or age >= LIFETIME,
        despite_unreachable=interactive or too_old,
    )

"""Session ticket keys: when to replace a set, and which replicas get it. Pure.

A set has three keys. nginx encrypts with `current` and decrypts with all of them, so a key is known
everywhere before it is used, and just as long afterwards.
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
"""The limit if a backend lacks the set: one broken backend must not keep a key in use forever."""


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
        """Return the set as nginx reads it, by file name."""
        return {f"{name}.key": content for name, content in vars(self).items()}

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Keys:
        """Return the set from its files, see `files`."""
        return cls(files["current.key"], files["next.key"], files["previous.key"])


@dataclass(frozen=True)
class Note:
    """What the issuer knows about its set."""

    made: Moment
    """When it was made, or first adopted as the fleet's."""

    reached: tuple[str, ...] = ()
    """The replicas that have it."""

    against: tuple[str, ...] = ()
    """The compromises known at the time: their keys are not in the set."""

    schema: int = SCHEMA


@dataclass(frozen=True)
class Seen:
    """The fleet's state before anything is done."""

    replicas: Sequence[str]
    """All replicas that may have the keys."""

    serving: Collection[str] = ()
    """Those that serve the right generation. The others get no keys until that is fixed."""

    not_resuming: Collection[str] = ()
    """Those that do not accept the issuer's tickets, although they serve the same certificate."""

    compromises: Collection[str] = ()
    """Which backends have taken keys away, and when."""


@dataclass(frozen=True)
class Plan:
    """What to do, in this order."""

    push: tuple[str, ...] = ()
    """The replicas that get the existing set."""

    replace: bool = False
    """Whether to replace all three keys and push them to every replica."""

    rotate: bool = False
    """Whether to make a new key and push the set to all replicas that serve."""

    despite_unreachable: bool = False
    """Whether to do that even if a replica could not get the existing set first."""

    def steps(self) -> list[str]:
        """Return what to do, in words; empty: all share the keys."""
        steps = [f"{name}: push the session ticket keys" for name in self.push]
        if self.replace:
            steps.append("replace all session ticket keys and push them to every replica")
        if self.rotate:
            steps.append("rotate the session ticket keys and push them to every replica")
        return steps


def plan(note: Note | None, seen: Seen, now: datetime, *, interactive: bool = False) -> Plan:
    """Return what to do.

    ``note`` is about the issuer's set; None: no replica has it yet, and it becomes the fleet's now.
    ``interactive``: a person asked for a rotation.
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
    # A set from the future was made while the clock was wrong: its age is unknown.
    too_old = age >= LONGEST or age < -timedelta(seconds=CLOCK_TOLERANCE)
    return Plan(
        push,
        rotate=interactive or too_old or age >= LIFETIME,
        despite_unreachable=interactive or too_old,
    )

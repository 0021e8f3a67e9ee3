"""Which private keys are compromised, and what remains to be done about them. Values only.

A mark is written before anything else is done, and has everything a revocation needs: the
generation may be gone from the archive by then. Once all is done, it keeps only the numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from certsync.model import codec
from certsync.model.codec import Moment
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text

RETURNED = (
    "it is back in the fleet, but not all keys that it may hold have been replaced: "
    "certsync remove-backend FLEET {} --compromised"
)


@dataclass(frozen=True)
class CompromisedKey:
    """A generation whose private key somebody else may hold."""

    number: int
    key_sum: str = ""
    """SHA-256 of the key's file, in hex."""

    directory: str = ""
    """The ACME directory of the CA that signed it."""

    account: str = ""
    """The account's URL at that CA."""

    not_after: Moment | None = None
    leaf: str = ""
    """PEM; empty: the generation was damaged, or nothing remains to be done."""

    key: str = field(default="", repr=False)
    """PEM, for a revocation that none of our accounts may request; empty: as above, or pruned."""

    revoked: bool = False

    def is_to_be_revoked(self, now: datetime) -> bool:
        """Return whether clients would still accept its certificate."""
        expired = self.not_after is not None and now >= self.not_after
        return bool(self.leaf) and not self.revoked and not expired


@dataclass(frozen=True)
class Mark:
    """Records that a backend was removed from the fleet, and what it may hold."""

    backend: str
    at: Moment
    exposed: tuple[CompromisedKey, ...]
    """All generations that the issuer had."""

    pending_sum: str = ""
    """SHA-256, in hex, of the open order's key; empty: there was none."""

    done: bool = False
    """Whether they are revoked, and deleted from every backend."""

    def ended(self) -> Mark:
        """Return this with everything done: the keys are no longer kept."""
        bare = tuple(replace(each, leaf="", key="") for each in self.exposed)
        return replace(self, exposed=bare, done=True)


@dataclass(frozen=True)
class Marks:
    """All marks of a lineage, one for each backend."""

    among: tuple[Mark, ...] = ()

    @property
    def open(self) -> tuple[Mark, ...]:
        """The marks that are not done."""
        return tuple(each for each in self.among if not each.done)

    @property
    def numbers(self) -> frozenset[int]:
        """The generations that must no longer be activated."""
        return frozenset(exposed.number for mark in self.among for exposed in mark.exposed)

    @property
    def exposed(self) -> dict[int, CompromisedKey]:
        """What remains to be revoked and deleted, by number."""
        return {exposed.number: exposed for mark in self.open for exposed in mark.exposed}

    @property
    def key_sums(self) -> frozenset[str]:
        """The keys that must not be used for another certificate."""
        sums = {exposed.key_sum for mark in self.among for exposed in mark.exposed}
        return frozenset((sums | {mark.pending_sum for mark in self.among}) - {""})

    def of(self, backend: str) -> Mark | None:
        """Return a backend's mark; None: there is none."""
        return next((each for each in self.among if each.backend == backend), None)

    def having(self, mark: Mark) -> Marks:
        """Return these with a mark added, or replaced for the same backend."""
        others = tuple(each for each in self.among if each.backend != mark.backend)
        return Marks((*others, mark))

    def revoked(self, number: int) -> Marks:
        """Return these with a generation marked as revoked."""
        return Marks(
            tuple(
                replace(
                    mark,
                    exposed=tuple(
                        replace(each, revoked=each.revoked or each.number == number)
                        for each in mark.exposed
                    ),
                )
                for mark in self.among
            )
        )

    def ended(self, but: Collection[str] = ()) -> Marks:
        """Return these all done, ``but`` for those of some backends."""
        return Marks(
            tuple(mark if mark.done or mark.backend in but else mark.ended() for mark in self.among)
        )

    def returned(self, fleet: Fleet) -> tuple[str, ...]:
        """Return the replicas that are back in the fleet too early: they must not get any key."""
        names = {mark.backend for mark in self.open}
        return tuple(each.name for each in fleet.replicas if each.name in names)

    def without(self, backends: Collection[str]) -> Marks:
        """Return these without the finished marks of backends that are back in the fleet."""
        return Marks(
            tuple(mark for mark in self.among if not mark.done or mark.backend not in backends)
        )

    def waiting(self) -> str:
        """Return what remains to be done, in words; empty: nothing."""
        if not self.open:
            return ""
        names = " and ".join(mark.backend for mark in self.open)
        numbers = ", ".join(number_text(each) for each in sorted(self.exposed)) or "none"
        return f"not all keys that {names} may hold have been replaced: generations {numbers}"

    def why(self, number: int) -> str:
        """Return why a generation must not be used, in words; empty: it is not marked."""
        holders = [
            mark.backend
            for mark in self.among
            if number in {exposed.number for exposed in mark.exposed}
        ]
        if not holders:
            return ""
        return (
            f"the private key of generation {number_text(number)} is compromised: "
            f"{' and '.join(holders)} may hold it"
        )

    def to_json(self) -> dict[str, Any]:
        """Return them as data for `json.dumps`."""
        return {"marks": codec.plain(self.among)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Marks:
        """Parse what this or an earlier version's `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is not valid.
        """
        marks = data.get("marks", ())
        for each in (exposed for mark in marks for exposed in mark["exposed"]):
            # Schema 1 used an empty text for unknown.
            each["not_after"] = each["not_after"] or None
        return cls(codec.typed(marks, tuple[Mark, ...]))

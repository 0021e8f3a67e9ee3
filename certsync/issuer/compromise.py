"""Which private keys are compromised, and what is still to be done about them. Values only.

A mark is written before anything else is done, and has all that a revocation needs: the generation
itself may be gone from the archive by then. Once all is done it keeps the numbers alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.model import codec
from certsync.model.codec import Moment
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text

RETURNED = (
    "it is in the fleet again, and keys that it may hold are not all replaced: "
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
    """PEM; empty: the generation was damaged, or nothing is left to be done."""

    key: str = ""
    """PEM, for a revocation that no account of ours can ask for; empty as above."""

    revoked: bool = False

    def is_to_be_revoked(self, now: datetime) -> bool:
        """Return whether its certificate is one that a client would still take."""
        expired = self.not_after is not None and now >= self.not_after
        return bool(self.leaf) and not self.revoked and not expired


@dataclass(frozen=True)
class Mark:
    """That a backend was taken out of the fleet, and what it may hold."""

    backend: str
    at: Moment
    exposed: tuple[CompromisedKey, ...]
    """All generations that the issuer had."""

    pending_sum: str = ""
    """SHA-256, in hex, of the key of the order that was open; empty: none was."""

    done: bool = False
    """Whether they are revoked, and deleted from every backend."""

    def ended(self) -> Mark:
        """Return this with all of it done: no key is kept any longer."""
        bare = tuple(replace(each, leaf="", key="") for each in self.exposed)
        return replace(self, exposed=bare, done=True)


@dataclass(frozen=True)
class Marks:
    """All marks of a lineage, one for each backend."""

    among: tuple[Mark, ...] = ()

    @property
    def open(self) -> tuple[Mark, ...]:
        """Those of which something is to be done."""
        return tuple(each for each in self.among if not each.done)

    @property
    def numbers(self) -> frozenset[int]:
        """The generations that must not be activated any more."""
        return frozenset(exposed.number for mark in self.among for exposed in mark.exposed)

    @property
    def exposed(self) -> dict[int, CompromisedKey]:
        """What is still to be revoked and deleted, by number."""
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
        """Return these with one more mark, or another one of the same backend."""
        others = tuple(each for each in self.among if each.backend != mark.backend)
        return Marks((*others, mark))

    def revoked(self, number: int) -> Marks:
        """Return these with a generation noted as revoked."""
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
        """Return these with nothing left to be done, ``but`` those of some backends."""
        return Marks(
            tuple(mark if mark.done or mark.backend in but else mark.ended() for mark in self.among)
        )

    def returned(self, fleet: Fleet) -> tuple[str, ...]:
        """Return the replicas that are in the fleet again before all was done: no key is theirs."""
        names = {mark.backend for mark in self.open}
        return tuple(each.name for each in fleet.replicas if each.name in names)

    def without(self, backends: Collection[str]) -> Marks:
        """Return these without the marks that are done of backends that are in the fleet again."""
        return Marks(
            tuple(mark for mark in self.among if not mark.done or mark.backend not in backends)
        )

    def waiting(self) -> str:
        """Return in words what is still to be done; empty: nothing."""
        if not self.open:
            return ""
        names = " and ".join(mark.backend for mark in self.open)
        numbers = ", ".join(number_text(each) for each in sorted(self.exposed)) or "none"
        return f"keys that {names} may hold are not all replaced yet: generations {numbers}"

    def why(self, number: int) -> str:
        """Return in words why a generation is not used; empty: it was not marked."""
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
        """Return them as what `json.dumps` takes."""
        return {"marks": codec.plain(self.among)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Marks:
        """Return what `to_json` wrote, here or in an earlier version.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        marks = data.get("marks", ())
        for each in (exposed for mark in marks for exposed in mark["exposed"]):
            # Schema 1 had an empty text where none is known.
            each["not_after"] = each["not_after"] or None
        return cls(codec.typed(marks, tuple[Mark, ...]))

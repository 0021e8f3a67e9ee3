"""One command on the issuer: for the whole of a fleet, and for each of its lineages.

What it changes is written down in words in the order of the changes, whatever it ends with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from certsync.issuer import situation
from certsync.issuer.memory import Memory
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError, LaterError, StoreError
from certsync.model.fleet import Fleet, Lineage

Tell = Callable[[str], None]


@dataclass
class Run:
    """A command's work on one lineage."""

    seen: Situation
    memory: Memory
    now: datetime
    tell: Tell
    did: Tell
    """Takes in words what was changed."""

    @property
    def name(self) -> str:
        """The lineage's name."""
        return self.seen.name

    @property
    def known(self) -> LineageState:
        """What is remembered of the lineage.

        Raises:
            NewerSchemaError: a newer version has written it.
        """
        return self.memory.of(self.name)

    def note(self, **changes: Any) -> None:
        """Remember fields of a `LineageState`.

        Raises:
            OSError: the disk refuses.
        """
        self.memory.note(self.name, **changes)

    def look_again(self) -> Situation:
        """Return what the disk says now: it was changed."""
        self.seen = self.seen.again()
        return self.seen


@dataclass
class Session:
    """A command on the issuer."""

    store: Store
    memory: Memory
    now: datetime
    tell: Tell
    done: list[str] = field(default_factory=list)
    """What was changed, in words."""

    _account: str | None = None

    def run(self, fleet: Fleet, lineage: Lineage, prefix: str = "") -> Run:
        """Return the work on one lineage; ``prefix`` stands before all that it tells.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._account is None:
            self._account = situation.account_of(self.store, fleet)
        return Run(
            situation.look(self.store, fleet, lineage, self._account),
            self.memory,
            self.now,
            lambda text: self.tell(f"{prefix}{text}"),
            lambda text: self.done.append(f"{prefix}{text}"),
        )

    def each(self, work: Callable[[Run], None]) -> None:
        """Do the work on each lineage, where one's failure is no other's.

        Raises:
            CertsyncError: what it failed at; if at several, all of it in one message.
        """
        fleet = self.store.fleet()
        problems: list[CertsyncError] = []
        for lineage in fleet.lineages:
            prefix = f"{lineage.name}: " if fleet.has_several else ""
            try:
                work(self.run(fleet, lineage, prefix))
            except CertsyncError as error:
                problems.append(prefixed(error, prefix))
        if trouble := together(problems):
            raise trouble

    def only(self, name: str = "") -> Run:
        """Return the work on the lineage that a person has named; the only one needs no name.

        Raises:
            StoreError: there is no such lineage, or there are several and none is named.
        """
        fleet = self.store.fleet()
        names = [each.name for each in fleet.lineages]
        known = ", ".join(names)
        if name and name not in names:
            raise StoreError(f"this fleet has no lineage {name}", f"name one of: {known}")
        if not name and fleet.has_several:
            hint = f"say which: --lineage, one of: {known}"
            raise StoreError("this fleet has several lineages", hint)
        return self.run(fleet, fleet.lineage_named(name or fleet.name))


def prefixed(error: CertsyncError, prefix: str) -> CertsyncError:
    """Return an error with a prefix before its message."""
    return type(error)(f"{prefix}{error.message}", error.hint) if prefix else error


def together(problems: Sequence[CertsyncError]) -> CertsyncError | None:
    """Return all problems as one error, the worst exit status first; None: all is well."""
    if len(problems) < 2:
        return problems[0] if problems else None
    worst = min(problems, key=lambda each: isinstance(each, LaterError))
    text = "; ".join(dict.fromkeys(each.message for each in problems))
    return type(worst)(text, worst.hint)

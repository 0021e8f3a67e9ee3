"""One command on the issuer: for the whole fleet, and for each of its lineages.

It records its changes in words and in order, even if it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from certsync.issuer import situation
from certsync.issuer.memory import Memory
from certsync.issuer.replicas.expected import expected
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError, LaterError, StoreError
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.proof import Proof
from certsync.system import proving
from certsync.system.patience import Patience

Tell = Callable[[str], None]


@dataclass
class Run:
    """A command's work on one lineage."""

    seen: Situation
    memory: Memory
    now: datetime
    tell: Tell
    did: Tell
    """Records a change, in words."""

    patience: Patience = field(default_factory=Patience)
    """With slow backends, in the whole command."""

    clock_off: timedelta = timedelta(0)
    """How far this machine's clock is ahead of ``now``, if that is the CA's time."""

    _served: list[Proof] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The lineage's name."""
        return self.seen.name

    @property
    def known(self) -> LineageState:
        """What is remembered about the lineage.

        Raises:
            NewerSchemaError: a newer version wrote it.
        """
        return self.memory.of(self.name)

    def note(self, **changes: Any) -> None:
        """Save fields of a `LineageState`.

        Raises:
            OSError: the disk cannot be written.
        """
        self.memory.note(self.name, **changes)

    def go_by(self, ca_time: datetime) -> None:
        """Go by the CA's time from now on, because this machine's clock is wrong."""
        self.clock_off += self.now - ca_time
        self.now, self._served = ca_time, None

    def served(self) -> list[Proof]:
        """Return what each backend serves; they are probed once."""
        if self._served is None:
            self._served = self._proofs(self.seen.holders)
        return self._served

    def served_here(self) -> list[Proof]:
        """Return what this machine serves."""
        return self._proofs([self.seen.fleet.issuer])

    def _proofs(self, hosts: Sequence[Machine]) -> list[Proof]:
        return proving.prove(hosts, self.name, expected(self.seen), self.now)

    def look_again(self) -> Situation:
        """Read the disk again after a change."""
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

    patience: Patience = field(default_factory=Patience)
    """With slow backends."""

    _account: str | None = None

    def run(
        self, fleet: Fleet, lineage: Lineage, prefix: str = "", *, with_records: bool = True
    ) -> Run:
        """Return the run for one lineage; ``prefix`` precedes its messages.

        Not ``with_records``: as if nothing had been withdrawn or compromised.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._account is None:
            self._account = situation.account_of(self.store, fleet)
        return Run(
            situation.look(self.store, fleet, lineage, self._account, with_records=with_records),
            self.memory,
            self.now,
            lambda text: self.tell(f"{prefix}{text}"),
            lambda text: self.done.append(f"{prefix}{text}"),
            self.patience,
        )

    def each(self, work: Callable[[Run], None]) -> None:
        """Do the work on each lineage; a failure does not stop the others.

        Raises:
            CertsyncError: the failure; several are combined in one message.
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
        """Return the run for the named lineage; the name is optional if there is only one.

        Raises:
            StoreError: the lineage does not exist, or there are several and none is named.
        """
        fleet = self.store.fleet()
        names = [each.name for each in fleet.lineages]
        known = ", ".join(names)
        if name and name not in names:
            raise StoreError(f"this fleet has no lineage {name}", f"name one of: {known}")
        if not name and fleet.has_several:
            hint = f"choose one with --lineage: {known}"
            raise StoreError("this fleet has several lineages", hint)
        return self.run(fleet, fleet.lineage_named(name or fleet.name))


def prefixed(error: CertsyncError, prefix: str) -> CertsyncError:
    """Return an error with a prefix before its message."""
    return type(error)(f"{prefix}{error.message}", error.hint) if prefix else error


def together(problems: Sequence[CertsyncError]) -> CertsyncError | None:
    """Return all problems as one error, with the worst exit status; None: there are none."""
    if len(problems) < 2:
        return problems[0] if problems else None
    worst = min(problems, key=lambda each: isinstance(each, LaterError))
    text = "; ".join(dict.fromkeys(each.message for each in problems))
    return type(worst)(text, worst.hint)

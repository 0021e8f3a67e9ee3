"""One hourly run of one lineage, with what it has met on its way."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from certsync.issuer.lineages import together
from certsync.issuer.replicas import replicate
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.store import Store
from certsync.model.errors import (
    CertsyncError,
    ClockError,
    FencedError,
    RolloutError,
    VetoError,
    as_certsync_error,
)
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text
from certsync.model.proof import Proof

Tell = Callable[[str], None]


@dataclass
class Run:
    """One run, with what it has met on its way."""

    fleet: Fleet
    store: Store
    now: datetime
    tell: Tell
    done: list[str]
    proofs: list[Proof] = field(default_factory=list)
    pushed: tuple[str, ...] = ()
    mixed_seconds: float | None = None
    asked_all: bool = False
    problems: list[CertsyncError] = field(default_factory=list)

    def part(self, work: Callable[[], None]) -> None:
        """Do a part of the run; what it fails at is a problem, and stops no other part."""
        try:
            work()
        except (CertsyncError, OSError) as error:
            self.problems.append(as_certsync_error(error))
        except Exception as error:  # noqa: BLE001  # what nobody foresaw must not stop an order
            self.tell(traceback.format_exc())
            self.problems.append(as_certsync_error(error))

    def roll_out(self) -> None:
        """Bring the newest generation to every backend, and note who does not serve it."""
        self.problems = [each for each in self.problems if not isinstance(each, RolloutError)]
        try:
            outcome = replicate.roll_out(self.store, self.now, self.tell)
        except VetoError as error:
            # Told at once: an order may follow in this run, and then it is over.
            self.tell(f"warning: {error.message}")
            self.problems.append(error)
            return
        self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self.proofs, self.asked_all = list(outcome.proofs), True
        self.pushed += outcome.pushed
        if outcome.mixed_seconds is not None:
            self.mixed_seconds = outcome.mixed_seconds
        if outcome.changed:
            names = ", ".join(outcome.changed)
            self.done.append(f"activated generation {number_text(outcome.number)} on {names}")
        if outcome.failures:
            self.problems.append(outcome.error())

    @property
    def is_fenced(self) -> bool:
        """Whether a replica has refused the push key: this may no longer be the issuer."""
        return any(isinstance(each, FencedError) for each in self.problems)

    @property
    def knows_the_time(self) -> bool:
        """Whether nothing has shown that this machine's clock is wrong."""
        return not any(isinstance(each, ClockError) for each in self.problems)

    def trouble(self) -> CertsyncError | None:
        """Return all problems as one error; None: all is well."""
        return together(self.problems)

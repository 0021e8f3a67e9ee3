"""One lineage's hourly run, and what happened in it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from certsync.issuer.replicas import transport
from certsync.issuer.run import Run, Tell, together
from certsync.model.errors import (
    CertsyncError,
    ClockError,
    FencedError,
    RolloutError,
    VetoError,
    as_certsync_error,
)
from certsync.model.proof import Proof


@dataclass
class Parts:
    """The parts of a run; a failure in one does not stop the others."""

    tell: Tell
    problems: list[CertsyncError] = field(default_factory=list)

    def part(self, work: Callable[[], None]) -> None:
        """Do a part; record its failure as a problem."""
        try:
            work()
        except (CertsyncError, OSError) as error:
            self.problems.append(as_certsync_error(error))
        except Exception as error:  # noqa: BLE001  # a bug must not stop an order
            self.tell(traceback.format_exc())
            self.problems.append(as_certsync_error(error))

    def trouble(self) -> CertsyncError | None:
        """Return all problems as one error; None: all is well."""
        return together(self.problems)


class Hourly(Parts):
    """An hourly run of one lineage."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.tell)
        self.run = run
        self.proofs: list[Proof] = []
        self.pushed: tuple[str, ...] = ()
        self.mixed_seconds: float | None = None
        self.asked_all = False

    def roll_out(self) -> None:
        """Roll out the newest generation, and record which backends do not serve it."""
        self.problems = [each for each in self.problems if not isinstance(each, RolloutError)]
        try:
            outcome = transport.of(self.run.seen.fleet).roll_out(self.run)
        except VetoError as error:
            # Reported at once: an order in this run may resolve it.
            self.run.tell(f"warning: {error.message}")
            self.problems.append(error)
            return
        self.proofs, self.asked_all = list(outcome.proofs), True
        self.pushed += outcome.pushed
        if outcome.mixed_seconds is not None:
            self.mixed_seconds = outcome.mixed_seconds
        if outcome.failures:
            self.problems.append(outcome.error())

    @property
    def is_fenced(self) -> bool:
        """Whether a replica refused the push key: this may no longer be the issuer."""
        return any(isinstance(each, FencedError) for each in self.problems)

    @property
    def knows_the_time(self) -> bool:
        """Whether the clock is not known to be wrong."""
        return not any(isinstance(each, ClockError) for each in self.problems)

    @property
    def stops_the_rest(self) -> bool:
        """Whether this machine should change nothing more."""
        return self.is_fenced or not self.knows_the_time

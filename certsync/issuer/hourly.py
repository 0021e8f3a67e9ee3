"""One hourly run of one lineage, with what it has met on its way."""

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
    """The parts of a run, of which none stops another."""

    tell: Tell
    problems: list[CertsyncError] = field(default_factory=list)

    def part(self, work: Callable[[], None]) -> None:
        """Do a part; what it fails at is a problem."""
        try:
            work()
        except (CertsyncError, OSError) as error:
            self.problems.append(as_certsync_error(error))
        except Exception as error:  # noqa: BLE001  # what nobody foresaw must not stop an order
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
        """Bring the newest generation to every backend, and note who does not serve it."""
        self.problems = [each for each in self.problems if not isinstance(each, RolloutError)]
        try:
            outcome = transport.of(self.run.seen.fleet).roll_out(self.run)
        except VetoError as error:
            # Told at once: an order may follow in this run, and then it is over.
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
        """Whether a replica has refused the push key: this may no longer be the issuer."""
        return any(isinstance(each, FencedError) for each in self.problems)

    @property
    def knows_the_time(self) -> bool:
        """Whether nothing has shown that this machine's clock is wrong."""
        return not any(isinstance(each, ClockError) for each in self.problems)

    @property
    def stops_the_rest(self) -> bool:
        """Whether this machine should change nothing more."""
        return self.is_fenced or not self.knows_the_time

"""Carrying out a rollout plan, and which backends failed on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certsync.issuer.replicas import receivers
from certsync.issuer.replicas.answer import Answer
from certsync.issuer.replicas.backend import Backend
from certsync.issuer.replicas.rollout import Plan, Refusal
from certsync.model.errors import (
    HostError,
    KeyRefusedError,
    UnreachableError,
)
from certsync.model.generation import number_text
from certsync.system.patience import Patience

Tell = Callable[[str], None]


@dataclass
class Rollout:
    """One run's execution of a plan, with the backends that failed on the way."""

    lineage: str
    plan: Plan
    backends: Sequence[Backend]
    tell: Tell
    unreached: dict[str, str] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)
    """Backends that refused the push key during the run."""

    pushed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Backends that activated it in this run."""

    caught_up: set[str] = field(default_factory=set)
    """Backends that were slow, and were asked after the others."""

    switched: int = 0
    """How many of these had a different one live before."""

    patience: Patience | None = None
    """With backends that are slower than the others; None: wait for all."""

    began: float | None = None
    """When the first was asked to activate, by the monotonic clock."""

    def activate(self, among: Sequence[Backend]) -> None:
        """Activate the generation on these backends; note when the first was asked to."""
        if among and self.began is None:
            self.began = time.monotonic()
        for backend, answer in self.ask("activate", among):
            if not isinstance(answer, HostError) and answer.ok:
                self.changed.append(backend.name)
                self.switched += answer.before != number_text(self.plan.number)
            # No more questions: its connection ends while the others are proven.
            backend.close_stdin()

    def mixed_seconds(self) -> float | None:
        """Return how long ago the first backend was asked to activate, if several switched."""
        if self.began is None or self.switched < 2:
            return None
        return time.monotonic() - self.began

    def among(self, names: Sequence[str]) -> list[Backend]:
        """Return those of the named backends that have not failed."""
        lost = {**self.unreached, **self.refused}
        return [each for each in self.backends if each.name in names and each.name not in lost]

    def ask(self, verb: str, among: Sequence[Backend]) -> list[tuple[Backend, Answer | HostError]]:
        """Ask the receivers to do something, record failures, and return all answers."""
        lineage, number = self.lineage, self.plan.number
        answers = receivers.each(lambda one: one.ask(verb, lineage, number), among, self.patience)
        for backend, answer in answers:
            self.note(backend, answer)
        return answers

    def push(self, outbox: Path) -> None:
        """Send the generation to those that lack it."""
        lacking = self.among(self.plan.push)
        for backend, error in receivers.each(lambda one: one.push(outbox), lacking, self.patience):
            if error is None:
                self.pushed.append(backend.name)
                self.tell(f"{backend.name}: received generation {number_text(self.plan.number)}")
            else:
                self.note(backend, error)

    def take_over(self, later: Rollout) -> None:
        """Add the outcome of a later round, in which other backends were asked."""
        for name in later.plan.names:
            self.unreached.pop(name, None)
            self.caught_up.add(name)
        self.unreached |= {**later.plan.unreached, **later.unreached}
        self.refused |= later.refused
        self.pushed += later.pushed
        self.changed += later.changed
        self.switched += later.switched

    def note(self, backend: Backend, answer: Answer | HostError) -> None:
        """Record a backend that is unreachable, and so has no vote, or that refuses."""
        if isinstance(answer, HostError):
            why = answer.why
            if isinstance(answer, UnreachableError):
                self.unreached[backend.name] = why
            else:
                self.refused[backend.name] = Refusal(backend.name, why)
            if isinstance(answer, KeyRefusedError):
                self.refusing.add(backend.name)
        elif not answer.ok:
            why = answer.why
            self.refused[backend.name] = Refusal(backend.name, why, answer.of_content)
        else:
            return
        self.tell(f"{backend.name}: {why}")

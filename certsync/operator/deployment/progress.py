"""Progress of a pyinfra run for people: numbered phases, and what each host is doing."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from certsync.model.fleet import Fleet
from certsync.operator.balancer.gate import Gate
from certsync.operator.deployment.plan import FileChange, Step
from certsync.operator.deployment.run import Event, Run
from certsync.system import console
from certsync.system.terminal import harmless

if TYPE_CHECKING:
    from rich.text import Text


@dataclass
class Outcome:
    """The outcome of a pyinfra run."""

    unreached: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    """The operation that failed, by host."""

    refused: str = ""
    changed: list[Step] = field(default_factory=list)
    """What was changed, in order."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    """In a dry run: pyinfra's forecast for each operation."""

    files: dict[tuple[str, str], FileChange] = field(default_factory=dict)
    """In a dry run: the files that would be written, by host and path."""

    scripts: list[tuple[str, str]] = field(default_factory=list)
    """In a dry run: host, and the script that would run there as root."""

    gates: list[tuple[str, Gate, Gate]] = field(default_factory=list)
    """In a dry run: balancer, its gate now and afterwards."""

    answers: dict[str, list[str] | None] = field(default_factory=dict)
    """In a dry run: what the issuer's own commands would do, by verb.

    None: certsync is not installed there yet."""


class Watch:
    """The state of the run, printed line by line, and live if standard error is a terminal."""

    def __init__(self, fleet: Fleet) -> None:
        self.outcome = Outcome()
        self._doing = {machine.name: "" for machine in fleet.machines}
        self._changed: dict[str, int] = {}
        self._same: dict[str, int] = {}
        self._phase = ""

    def take(self, event: Event) -> None:
        """Record one event and print it."""
        if event.kind == "unreached":
            self.outcome.unreached = event.hosts
            for name in event.hosts:
                console.tell(f"    {name}: unreachable over SSH")
        elif event.kind == "refused":
            self.outcome.refused = event.text
        elif event.kind == "note":
            console.tell(f"    {event.text}")
        elif event.kind == "phase":
            self.end_phase()
            self._phase = event.name
            console.tell(self._phase)
        elif event.kind == "start":
            self._doing[event.host] = event.name
        elif event.kind in ("success", "error"):
            self._finish(event)
        else:
            self._foresee(event)

    def _foresee(self, event: Event) -> None:
        """Record what a dry run reports."""
        data = event.data
        if event.kind == "file":
            change = FileChange(event.host, data["path"], data["before"], data["after"])
            self.outcome.files[change.host, change.path] = change
        elif event.kind == "script":
            self.outcome.scripts.append((event.host, event.text))
        elif event.kind == "gate":
            gates = Gate(**data["before"]), Gate(**data["after"])
            self.outcome.gates.append((event.host, *gates))
        elif event.kind == "plan":
            self.outcome.operations = data["operations"]
        elif event.kind == "answer":
            self.outcome.answers[event.name] = data["steps"]

    def _finish(self, event: Event) -> None:
        what = event.name
        self._doing[event.host] = ""
        if event.kind == "error":
            self.outcome.failed[event.host] = what
            console.tell(f"    {event.host}: failed: {what}")
            return
        counts = self._changed if event.changed else self._same
        counts[event.host] = counts.get(event.host, 0) + 1
        if event.changed:
            self.outcome.changed.append(Step(self._phase, event.host, what))

    def end_phase(self) -> None:
        """Print what the finished phase did on each host."""
        for name in self._doing:
            changed, same = self._changed.get(name, 0), self._same.get(name, 0)
            if changed or same:
                console.tell(f"    {name}: {changed} changed, {same} unchanged")
        self._changed, self._same = {}, {}

    def __rich__(self) -> Text:
        """Return the live lines drawn below the rest."""
        from rich.text import Text

        lines = [f"    {name}: {what} …" for name, what in self._doing.items() if what]
        # As Text, because text from hosts may look like the library's markup.
        return Text(harmless("\n".join(lines)))


def follow(fleet: Fleet, run: Run) -> Outcome:
    """Print a run's progress, and return its outcome."""
    watch = Watch(fleet)
    with _live(watch):
        for event in run.events():
            watch.take(event)
    watch.end_phase()
    return watch.outcome


def _live(watch: Watch) -> AbstractContextManager[Any]:
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.live import Live

    return Live(
        watch, console=Console(stderr=True), refresh_per_second=8, transient=True,
        redirect_stdout=False,
    )  # fmt: skip

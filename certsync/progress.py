"""What a person sees while pyinfra runs: numbered phases, and how far each host is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from certsync import console
from certsync.fleet import Fleet
from certsync.pyinfra_run import Event, Run

PHASE = "Phase "


@dataclass
class Outcome:
    """What a run of pyinfra came to."""

    unreached: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    """Host to the operation that failed there."""

    refused: str = ""
    changed: int = 0
    """Operations that changed something, counted on each host."""


class Watch:
    """The state of the run, told line by line, and live where standard error is a terminal."""

    def __init__(self, fleet: Fleet) -> None:
        self.outcome = Outcome()
        self._doing = {machine.name: "" for machine in fleet.machines}
        self._changed: dict[str, int] = {}
        self._same: dict[str, int] = {}

    def take(self, event: Event) -> None:
        """Note one event, and print what it means."""
        if event.kind == "unreached":
            self.outcome.unreached = event.hosts
            for name in event.hosts:
                console.tell(f"    {name}: not reached over SSH")
        elif event.kind == "refused":
            self.outcome.refused = event.text
        elif event.kind == "operation" and event.name.startswith(PHASE):
            self.end_phase()
            console.tell(event.name.removeprefix(PHASE))
        elif event.kind == "start":
            waiting = event.name.startswith(PHASE)
            self._doing[event.host] = "" if waiting else event.name.split(" | ")[-1]
        elif event.kind in ("success", "error") and not event.name.startswith(PHASE):
            self._finish(event)

    def _finish(self, event: Event) -> None:
        what = event.name.split(" | ")[-1]
        self._doing[event.host] = ""
        if event.kind == "error":
            self.outcome.failed[event.host] = what
            console.tell(f"    {event.host}: failed: {what}")
            return
        counts = self._changed if event.changed else self._same
        counts[event.host] = counts.get(event.host, 0) + 1
        self.outcome.changed += event.changed

    def end_phase(self) -> None:
        """Print what the phase that ends has done on each host."""
        for name in self._doing:
            changed, same = self._changed.get(name, 0), self._same.get(name, 0)
            if changed or same:
                console.tell(f"    {name}: {changed} changed, {same} as they should be")
        self._changed, self._same = {}, {}

    def __rich__(self) -> str:
        """Return the lines that are drawn again and again below the rest."""
        return "\n".join(f"    {name}: {what} …" for name, what in self._doing.items() if what)


def follow(fleet: Fleet, run: Run) -> Outcome:
    """Print a run as it goes, and return what it came to."""
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


def changes_announced(output: Iterable[str]) -> list[str]:
    """Return what a dry run would do, phase by phase, from the table that pyinfra printed."""
    lines = list(output)
    starts = [index for index, line in enumerate(lines) if "Detected changes:" in line]
    found, phase = [], ""
    for line in lines[starts[0] + 2 :] if starts else []:
        if "Detected changes may not" in line:
            break
        name, sure, perhaps = (*re.split(r"\s{2,}", line.strip()), "", "", "")[:3]
        if name.startswith(PHASE):
            phase = name.removeprefix(PHASE)
            continue
        what = name.split(" | ")[-1]
        told = [f"    {what}: {_hosts(sure)}"] if _hosts(sure) else []
        told += [f"    {what}, if what comes before it changes: {_hosts(perhaps)}"] * bool(
            _hosts(perhaps)
        )
        if told and phase:
            found.append(phase)
            phase = ""
        found += told
    return found or ["nothing would be changed"]


def _hosts(cell: str) -> str:
    match = re.search(r"\((.*)\)", cell)
    return match.group(1) if match else ""

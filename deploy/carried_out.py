"""The one operation that changes hosts: steps are planned here and taken there by one command.

As a pyinfra operation it yields that command, or nothing if there is nothing to do.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyinfra import host
from pyinfra.api import Host, State, StringCommand, operation
from pyinfra.connectors.util import CommandOutput, OutputLine

from certsync.model.errors import CertsyncError
from certsync.operator.deployment.operations import Phase
from certsync.operator.hosts.survey import Survey
from certsync.programs import text_of
from deploy import answers, archive, progress, surveys
from deploy.step import Step, refused

Commands = Generator[Any, None, None]
Planned = Callable[[Survey], Iterable[Step]]
"""Plans the steps for a host, from its survey."""


@operation()
def barrier() -> Commands:
    """Wait until all hosts get here: pyinfra orders operations within a host, not between hosts."""
    yield from ()


def phase(which: Phase) -> None:
    """Begin a phase once all hosts get here."""
    name = f"Phase {which}"
    progress.phases[name] = which
    barrier(name=name)


@operation()
def carried_out(plans: Sequence[Planned]) -> Commands:
    """Carry out these plans on a host by one command."""
    seen = surveys.of(host)
    steps = [step for plan in plans for step in _worked_out(plan, seen)]
    for each in steps:
        for change in each.changes:
            progress.would_write(host, change.path, change.before, change.after)
    progress.foresee(host, [(each.name, each.script) for each in steps if each.script])
    if any(each.script for each in steps):
        yield Taken(steps)
        return
    for each in steps:
        progress.step_done(host, each.name, changed=False)
    host.noop("nothing to do")


def _worked_out(plan: Planned, seen: Survey) -> list[Step]:
    """Return a plan's steps. A plan that raises an error only fails on its own host."""
    steps = list[Step]()
    try:
        for step in plan(seen):
            steps.append(step)
    except (CertsyncError, OSError) as error:
        steps.append(refused("Plan the steps", error))
    return steps


class Taken(StringCommand):
    """The command that takes the steps that have something to do."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__("sh", "steps")
        self.steps = [each for each in steps if each.script]
        self.others = [each for each in steps if not each.script]

    def execute(
        self, state: State, host: Host, connector_arguments: Any
    ) -> tuple[bool, CommandOutput]:
        """Run it, report each step's result, and return whether all succeeded, and the output."""
        content = archive.archive([_with_files(each) for each in self.steps])
        unpack = shlex.join(["sh", "-c", text_of("unpack.sh"), "unpack", str(len(content))])
        command = StringCommand(unpack, _stdin=[base64.b64encode(content).decode()])
        good, output = command.execute(state, host, connector_arguments)
        surveys.forget(host)
        answers.forget()
        begun, own = -1, list[OutputLine]()
        for line in output.combined_lines:
            if found := archive.STEP.fullmatch(line.line):
                begun = int(found[1])
            else:
                own.append(line)
        self._tell(host, len(self.steps) if good else max(begun, 0), good=good)
        return good, CommandOutput(own)

    def _tell(self, host: Host, done: int, *, good: bool) -> None:
        for each in self.others:
            progress.step_done(host, each.name, changed=False)
        for each in self.steps[:done]:
            progress.step_done(host, each.name, changed=True)
        if not good:
            progress.failed(host, self.steps[min(done, len(self.steps) - 1)].name)


def _with_files(step: Step) -> Step:
    """Return a step with its files' contents, or a failing one if they cannot be read."""
    try:
        files = step.files if isinstance(step.files, Mapping) else step.files()
        return replace(step, files={name: archive.content_of(each) for name, each in files.items()})
    except (CertsyncError, OSError) as error:
        return refused(step.name, error)

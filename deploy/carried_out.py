"""The one operation that changes hosts: steps are worked out here, and taken there by one command.

As pyinfra's operation it yields that command, or nothing where nothing is to be done.
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
"""What a host should be like, as steps, from what it is like."""


@operation()
def barrier() -> Commands:
    """Wait until every host is here: pyinfra orders operations within a host, not between them."""
    yield from ()


def phase(which: Phase) -> None:
    """Begin a phase, once every host is here."""
    name = f"Phase {which}"
    progress.phases[name] = which
    barrier(name=name)


@operation()
def carried_out(plans: Sequence[Planned]) -> Commands:
    """Have a host be as these plans say, by one command."""
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
    host.noop("all is as it should be")


def _worked_out(plan: Planned, seen: Survey) -> list[Step]:
    """Return a plan's steps. One that cannot be worked out fails on its host, and on no other."""
    steps = list[Step]()
    try:
        for step in plan(seen):
            steps.append(step)
    except (CertsyncError, OSError) as error:
        steps.append(refused("What is to be done", error))
    return steps


class Taken(StringCommand):
    """The command that takes the steps for which there is something to do."""

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__("sh", "steps")
        self.steps = [each for each in steps if each.script]
        self.others = [each for each in steps if not each.script]

    def execute(
        self, state: State, host: Host, connector_arguments: Any
    ) -> tuple[bool, CommandOutput]:
        """Run it; tell what became of each step, and return whether all did well and why not."""
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
    """Return a step with what it brings along, or one that says why that is not there."""
    try:
        files = step.files if isinstance(step.files, Mapping) else step.files()
        return replace(step, files={name: archive.content_of(each) for name, each in files.items()})
    except (CertsyncError, OSError) as error:
        return refused(step.name, error)

"""What is said to a host over pyinfra's SSH: each answer begins with a mark, and files go as text.

What a login shell prints is then in no fact, pyinfra's own among them, and no upload ends in it:
SFTP takes the first line that is printed for a part of its protocol, which ended the whole run.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable
from io import IOBase
from pathlib import Path
from typing import Any

from pyinfra.api import State, StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from certsync.frame import BEGIN, PREFIX
from certsync.host import not_begun
from certsync.process import Completed
from deploy.progress import event

WRITE = """\
text=$(cat)
[ ${{#text}} -eq {size} ] || {{ echo 'error: what was sent did not arrive whole' >&2; exit 1; }}
printf %s "$text" | base64 -d > {path}"""
"""A connection that is cut off ends standard input too, so the file waits for the last byte."""


class Framed(SSHConnector):
    """pyinfra's connector, with a mark before each answer and without SFTP."""

    told = False
    """Whether it has been told that this host's login shell runs no command."""

    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Run a command; return whether it did well, and what it printed itself."""
        status, output = super().run_shell_command(
            StringCommand(PREFIX, command), print_output, print_input, **arguments
        )
        answer = own(output.combined_lines)
        if answer is None:
            return False, CommandOutput(self._not_begun(output))
        return status, CommandOutput(answer)

    def _not_begun(self, output: CommandOutput) -> list[OutputLine]:
        """Return why no command has begun, as lines of it; and say once that this host failed."""
        if not self.told:
            self.told = True
            event("error", host=self.host.name, name="Commands over SSH")
        error = not_begun(self.host.data.machine, Completed(1, output.stdout, output.stderr))
        why = error.message.removeprefix(f"{self.host.name}: ")
        return [OutputLine("stderr", f"error: {why}"), OutputLine("stderr", f"hint: {error.hint}")]

    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,  # noqa: ARG002  # pyinfra's own interface
        print_output: bool = False,
        print_input: bool = False,
        **arguments: Any,
    ) -> bool:
        """Write a file, whole or not at all, with the rights that commands have there."""
        text = base64.b64encode(_content(filename_or_io)).decode()
        command = WRITE.format(size=len(text), path=shlex.quote(remote_filename))
        status, output = self.run_shell_command(
            StringCommand(command), print_output, print_input, **{**arguments, "_stdin": [text]}
        )
        for line in [] if status else output.output_lines:
            self.host.log(line)
        return status


def _content(source: Any) -> bytes:
    if isinstance(source, str):
        return Path(source).read_bytes()
    source.seek(0)
    content = source.read()
    return content.encode() if isinstance(content, str) else bytes(content)


def own(lines: Iterable[OutputLine]) -> list[OutputLine] | None:
    """Return what a command printed itself; None: it has not begun."""
    begun, rest = set[str](), list[OutputLine]()
    for line in lines:
        if line.buffer_name in begun:
            rest.append(line)
        elif line.line == BEGIN:
            begun.add(line.buffer_name)
    return rest if "stdout" in begun else None


def frame_answers(state: State) -> None:
    """Have all hosts of a run answer so, once: one of them reads facts of the others too."""
    for host in state.activated_hosts:
        if type(host.connector) is SSHConnector:
            host.connector.__class__ = Framed

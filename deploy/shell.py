"""What is said to a host over pyinfra's SSH: each answer is between marks, and files go as text.

What a login shell prints is then in no fact, pyinfra's own among them, and no upload ends in it:
SFTP takes the first line that is printed for a part of its protocol, which ended the whole run.
Whatever a host does, it fails alone: what its connection raises would end the run for all.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import IOBase
from pathlib import Path
from typing import Any

from gevent import Timeout, spawn
from paramiko import SSHException
from pyinfra.api import State, StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    extract_control_arguments,
    make_unix_command_for_host,
    read_output_buffers,
    write_stdin,
)

from certsync.model.errors import HostError
from certsync.model.frame import AFTER, BEFORE, BEGIN, END
from certsync.programs import command as program
from certsync.system.process import Completed
from certsync.system.ssh import connection_lost, instead, not_begun, too_late
from deploy.progress import event

BEGIN_SECONDS = 60.0
"""For a login shell to begin a command; how long that takes then has no limit: apt may wait."""

EXIT_SECONDS = 60.0
"""For the exit status to come once both outputs are closed."""


class Framed(SSHConnector):
    """pyinfra's connector, with marks around each answer, without SFTP, and asking nobody."""

    failed: HostError | None = None
    """Why no command is sent there any more; None: they are."""

    told = False
    """Whether it has been told that this host fails."""

    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,  # noqa: ARG002  # pyinfra's own interface
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Run a command; return whether it did well, and what it printed itself."""
        if self.failed:
            return self._failure(self.failed)
        try:
            status, good, output = self._answer(command, print_output, arguments)
        except TimeoutError:
            raise
        except (EOFError, OSError, SSHException):
            return self._failure(connection_lost(self.host.name, ""))
        except HostError as error:
            self.failed = error
            return self._failure(error)
        answer = own(output.combined_lines)
        if answer is None and status == -1:
            return self._failure(connection_lost(self.host.name, ""))
        if answer is None:
            done = Completed(status, output.stdout, output.stderr)
            return self._failure(not_begun(self.host.data.machine, done))
        if status == -1:
            return self._failure(connection_lost(self.host.name, CommandOutput(answer).stderr))
        return good, CommandOutput(answer)

    def _answer(
        self, command: StringCommand, print_output: bool, arguments: Any
    ) -> tuple[int, bool, CommandOutput]:
        """Return a command's exit status (-1: none came), whether that is good, and all output.

        pyinfra's own would ask the operator for a password where a host says that sudo wants one.

        Raises:
            TimeoutError: the command took longer than its own limit.
            EOFError: the connection ended.
            OSError: the same.
            SSHException: the same.
            HostError: no command has begun in time.
        """
        control: Any = extract_control_arguments(arguments)
        unix = make_unix_command_for_host(
            self.state, self.host, StringCommand(BEFORE, command, AFTER), **arguments
        )
        assert self.client is not None
        limit = Timeout(BEGIN_SECONDS)
        limit.start()
        try:
            channel, output = self._exchange(unix.get_raw_value(), control, limit, print_output)
        except Timeout as over:
            if over is not limit:
                raise
            self.client.close()
            raise too_late(self.host.name, BEGIN_SECONDS) from None
        finally:
            limit.close()
        ended = channel.status_event.wait(EXIT_SECONDS)
        status = channel.recv_exit_status() if ended else -1
        return status, status in (control.get("_success_exit_codes") or [0]), output

    def _exchange(
        self, command: str, control: Any, limit: Timeout, print_output: bool
    ) -> tuple[Any, CommandOutput]:
        """Return the channel of a command, and all that it printed; see `_answer`.

        ``limit`` ends with the first line.
        """
        assert self.client is not None
        stdin, stdout, _ = self.client.exec_command(
            instead(command), get_pty=control.get("_get_pty", False)
        )
        # Meanwhile: a large file may take longer than a command to begin.
        writer = spawn(_write, control.get("_stdin"), stdin)
        channel = stdout.channel
        output = read_output_buffers(
            _lines(channel.makefile("rb"), limit),
            _lines(channel.makefile_stderr("rb")),
            timeout=control.get("_timeout"),
            print_output=print_output,
            print_prefix=self.host.print_prefix,
        )
        writer.kill(block=False)
        return channel, output

    def _failure(self, error: HostError) -> tuple[bool, CommandOutput]:
        """Return why a command failed, as lines of it; and say once that this host failed."""
        if not self.told:
            self.told = True
            event("error", host=self.host.name, name="Commands over SSH")
        why = error.why
        lines = [OutputLine("stderr", f"error: {why}"), OutputLine("stderr", f"hint: {error.hint}")]
        return False, CommandOutput(lines)

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
        command = program("upload.sh", str(len(text)), remote_filename)
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


def _write(text: Any, stdin: Any) -> None:
    """Give a command its standard input. One that ends before has said by its status why."""
    with suppress(EOFError, OSError, SSHException):
        if text:
            write_stdin(text, stdin)  # type: ignore[no-untyped-call]  # pyinfra's own
        stdin.close()


def _lines(said: Iterable[bytes], limit: Any = None) -> Iterator[str]:
    """Yield lines as text, whatever bytes they are of; the limit ends where an answer begins."""
    for each in said:
        line = each.decode(errors="replace")
        if limit and line == f"{BEGIN}\n":
            limit.close()
        yield line


def own(lines: Iterable[OutputLine]) -> list[OutputLine] | None:
    """Return what a command printed itself; None: it has not begun."""
    begun, ended, rest = set[str](), set[str](), list[OutputLine]()
    for line in lines:
        name = line.buffer_name
        if name in ended:
            continue
        if line.line == BEGIN:
            # The second one comes where a startup file has made one of both outputs.
            begun.add(name)
            _drop_blank(rest, name)
        elif END.fullmatch(line.line):
            ended.add(name)
            _drop_blank(rest, name)
        elif name in begun:
            rest.append(line)
    return rest if "stdout" in begun else None


def _drop_blank(lines: list[OutputLine], name: str) -> None:
    """Take away the line that a mark begins with, so that it is on one by itself."""
    at = next((i for i in reversed(range(len(lines))) if lines[i].buffer_name == name), None)
    if at is not None and not lines[at].line:
        del lines[at]


def frame_answers(state: State) -> None:
    """Have all hosts of a run answer so, once: one of them reads facts of the others too."""
    for host in state.activated_hosts:
        if type(host.connector) is SSHConnector:
            host.connector.__class__ = Framed

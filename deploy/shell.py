"""Commands over pyinfra's SSH, with each answer between marks, and files uploaded as text.

So a login shell's output ends up in no fact, including pyinfra's own, and breaks no upload: SFTP
would take its first line as part of the protocol, and end the whole run. Exceptions from a host's
connection, which would end the run for all hosts, become failures of that host.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
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
from certsync.system.ssh import SHELL, connection_lost, instead, not_begun, too_late
from deploy.progress import event

BEGIN_SECONDS = 60.0
"""The limit for a login shell to start a command, which may then take longer: apt may have to wait.
"""

LONGEST_SECONDS = 3600
"""The limit for a command that has none of its own: installing packages on a slow host."""

MOST_BYTES = 16 * 1024 * 1024
"""The limit for each of a command's outputs; the longest one that is asked for has some 100 kB."""

LONGEST_LINE = 1024 * 1024
"""Bytes; a longer line is split."""

EXIT_SECONDS = 60.0
"""The limit for the exit status to arrive after both outputs are closed."""


class Framed(SSHConnector):
    """pyinfra's connector, with marks around each answer, without SFTP, and never interactive."""

    failed: HostError | None = None
    """Why commands are no longer sent to this host; None: they are."""

    reported = False
    """Whether this host's failure has been reported."""

    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,
        print_input: bool = False,  # noqa: ARG002  # pyinfra's own interface
        **arguments: Any,
    ) -> tuple[bool, CommandOutput]:
        """Run a command; return whether it succeeded, and its own output."""
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
        """Return a command's exit status (-1: none), whether it means success, and all output.

        pyinfra's own method would prompt for a password if sudo on a host wants one.

        Raises:
            TimeoutError: the command took longer than its own limit.
            EOFError: the connection ended.
            OSError: the same.
            SSHException: the same.
            HostError: the command did not start in time, or wrote too much.
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
        """Return a command's channel and all its output; see `_answer`.

        ``limit`` is cancelled when the answer begins.
        """
        assert self.client is not None
        stdin, stdout, _ = self.client.exec_command(
            instead(command), get_pty=control.get("_get_pty", False)
        )
        # Concurrently: a large file may take longer than the start of the command.
        writer = spawn(_write, control.get("_stdin"), stdin)
        channel, flooded = stdout.channel, list[int]()
        output = read_output_buffers(
            _lines(channel.makefile("rb"), flooded.append, limit),
            _lines(channel.makefile_stderr("rb"), flooded.append),
            timeout=control.get("_timeout") or LONGEST_SECONDS,
            print_output=print_output,
            print_prefix=self.host.print_prefix,
        )
        writer.kill(block=False)
        if flooded:
            self.client.close()
            raise HostError(
                f"a command wrote more than {MOST_BYTES // 1024 // 1024} MB, so it was stopped",
                f"as the SSH user there: what does `sh -c true` print? {SHELL}",
                host=self.host.name,
            )
        return channel, output

    def _failure(self, error: HostError) -> tuple[bool, CommandOutput]:
        """Return an error as a failed command's output; report the host's failure once."""
        if not self.reported:
            self.reported = True
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
        """Write a file, completely or not at all, with the same rights as commands."""
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
    """Write a command's standard input. If it ends early, its exit status tells why."""
    with suppress(EOFError, OSError, SSHException):
        if text:
            write_stdin(text, stdin)  # type: ignore[no-untyped-call]  # pyinfra's own
        stdin.close()


def _lines(output: Any, flood: Callable[[int], None], limit: Any = None) -> Iterator[str]:
    """Yield lines as text, even if not UTF-8; cancel the limit when the answer begins.

    After too many bytes, report them to ``flood``, and end.
    """
    count = 0
    while each := output.readline(LONGEST_LINE):
        count += len(each)
        if count > MOST_BYTES:
            flood(count)
            return
        line = each.decode(errors="replace")
        if limit and line == f"{BEGIN}\n":
            limit.close()
        yield line


def own(lines: Iterable[OutputLine]) -> list[OutputLine] | None:
    """Return a command's own output; None: it has not begun."""
    begun, ended, rest = set[str](), set[str](), list[OutputLine]()
    for line in lines:
        name = line.buffer_name
        if name in ended:
            continue
        if line.line == BEGIN:
            # The second mark is here too if a startup file merged both outputs.
            begun.add(name)
            _drop_blank(rest, name)
        elif END.fullmatch(line.line):
            ended.add(name)
            _drop_blank(rest, name)
        elif name in begun:
            rest.append(line)
    return rest if "stdout" in begun else None


def _drop_blank(lines: list[OutputLine], name: str) -> None:
    """Remove the blank line that precedes a mark."""
    at = next((i for i in reversed(range(len(lines))) if lines[i].buffer_name == name), None)
    if at is not None and not lines[at].line:
        del lines[at]


def frame_answers(state: State) -> None:
    """Use `Framed` for all hosts of a run at once, because hosts read each other's facts."""
    for host in state.activated_hosts:
        if type(host.connector) is SSHConnector:
            host.connector.__class__ = Framed

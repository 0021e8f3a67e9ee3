"""pyinfra's connections to hosts, made by OpenSSH as all others are (docs/decisions/0026).

Each answer comes between marks, and files are uploaded as text. So a login shell's output ends up
in no fact, including pyinfra's own, and breaks no upload. Whatever goes wrong on a host's
connection is a failure of that host, and never ends the run for all of them.
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from io import IOBase
from pathlib import Path
from typing import Any

import pyinfra.connectors.ssh
from gevent import Timeout, spawn
from gevent.subprocess import PIPE, Popen, TimeoutExpired
from pyinfra.api import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    extract_control_arguments,
    make_unix_command_for_host,
    read_output_buffers,
    write_stdin,
)

from certsync.model.errors import HostError
from certsync.model.frame import AFTER, BEFORE, BEGIN, begun, unmarked
from certsync.programs import command as program
from certsync.system import ssh
from certsync.system.environment import without_credentials
from certsync.system.process import MAX_OUTPUT, Completed
from deploy import progress
from deploy.output import TOO_MUCH, lines, own

BEGIN_SECONDS = 60.0
"""The limit for a login shell to start a command, which may then take longer: apt may have to wait.
"""

LONGEST_SECONDS = 3600
"""The limit for a command that has none of its own: installing packages on a slow host."""

EXIT_SECONDS = 60.0
"""The limit for ssh to end after both outputs are closed."""

LOST = 255
"""ssh(1): its exit status if the connection failed, or if the command's own is this one."""


class OpenSSH(BaseConnector):
    """A host behind ssh(1): one connection for all commands, and nobody is ever asked anything."""

    handles_execution = True

    failed: HostError | None = None
    """Why commands are no longer sent to this host; None: they are."""

    reported = False
    """Whether this host's failure has been reported."""

    _ending: ExitStack
    """Closes the connection."""

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Yield the host that pyinfra's command line calls ``@ssh/NAME``."""
        yield f"@ssh/{name}", {}, []

    def connect(self) -> None:
        """Open the connection that commands share.

        Raises:
            ConnectError: the host cannot be reached, or its login shell does not run commands.
        """
        if getattr(self.host.data, "machine", None) is None:
            raise ConnectError("error: it is no machine of the fleet file")
        try:
            with ExitStack() as stack:
                options = stack.enter_context(ssh.shared(self.host.data.machine))
                # `cat` ends with us, even if we are killed, because it reads our pipe.
                self._open(stack, options, begun("exec cat > /dev/null"))
                self._ending = stack.pop_all()
        except HostError as error:
            if error.hint:
                self.host.log(f"hint: {error.hint}")
            raise ConnectError(f"error: {error.why}") from None
        progress.ending.append(self._ending.close)

    def _open(self, stack: ExitStack, options: list[str], command: str) -> None:
        """Start a command that never ends, and wait until it begins.

        Raises:
            HostError: it does not begin.
        """
        child = self._started(f"sh -c {shlex.quote(command)}", options)
        stack.callback(_end, child)
        assert child.stderr is not None
        errors = spawn(child.stderr.read, MAX_OUTPUT)
        noise = []
        try:
            with Timeout(BEGIN_SECONDS):
                for line in lines(child.stdout, partial(_kill, child)):
                    if line == f"{BEGIN}\n":
                        return
                    noise.append(line)
                status = child.wait()
        except Timeout:
            raise ssh.too_late(self.host.name, BEGIN_SECONDS) from None
        raise self._not_begun(status, "".join(noise), errors.get().decode(errors="replace"))

    def _not_begun(self, status: int, stdout: str, stderr: str) -> HostError:
        if status == LOST:
            known_hosts = self.host.data.fleet.known_hosts
            return ssh.unreached(self.host.data.machine, known_hosts, unmarked(stderr))
        return ssh.not_begun(self.host.data.machine, Completed(status, stdout, stderr))

    def _started(self, command: str, options: list[str]) -> Popen[bytes]:
        """Start ssh for a command.

        Raises:
            HostError: it cannot be started.
        """
        machine, known_hosts = self.host.data.machine, self.host.data.fleet.known_hosts
        argv = [*ssh.ssh_argv(machine, known_hosts, *options), ssh.instead(command)]
        # In a session of its own, so that Ctrl-C reaches pyinfra alone, which ends it in order.
        try:
            return Popen(
                argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True,
                env=without_credentials(),
            )  # fmt: skip
        except OSError as error:
            raise HostError(f"{argv[0]} cannot be run here: {error.strerror}") from None

    def disconnect(self) -> None:
        """Close the connection."""
        self._ending.close()

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
        control: Any = extract_control_arguments(arguments)  # type: ignore[arg-type]  # its own
        unix = make_unix_command_for_host(
            self.state, self.host, StringCommand(BEFORE, command, AFTER), **arguments
        )
        try:
            status, output = self._exchange(unix.get_raw_value(), control, print_output)
        except HostError as error:
            self.failed = error
            return self._failure(error)
        answer, ended = own(output.combined_lines)
        if answer is None:
            return self._failure(self._not_begun(status, output.stdout, output.stderr))
        if status == LOST and not ended:
            words = CommandOutput(answer).stderr
            return self._failure(ssh.connection_lost(self.host.name, words))
        good = status in (control.get("_success_exit_codes") or [0])
        return good, CommandOutput(answer)

    def _exchange(
        self, command: str, control: Any, print_output: bool
    ) -> tuple[int, CommandOutput]:
        """Return a command's exit status, and all its output.

        pyinfra's own way would prompt for a password if sudo on a host wants one.

        Raises:
            TimeoutError: the command took longer than its own limit.
            HostError: the command did not start in time, or printed too much.
        """
        child = self._started(command, ssh.through(self.host.data.machine))
        kill = partial(_kill, child)
        limit = Timeout(BEGIN_SECONDS)
        # Concurrently: a large file may take longer than the start of the command.
        writer = spawn(_write, control.get("_stdin"), child.stdin)
        limit.start()
        try:
            output = read_output_buffers(
                lines(child.stdout, kill, limit),
                lines(child.stderr, kill),
                timeout=control.get("_timeout") or LONGEST_SECONDS,
                print_output=print_output,
                print_prefix=self.host.print_prefix,
            )
            limit.close()
            if any(line.line == TOO_MUCH for line in output.combined_lines):
                raise HostError(f"it printed more than {MAX_OUTPUT} bytes", host=self.host.name)
            return child.wait(EXIT_SECONDS), output
        except TimeoutExpired:
            return LOST, output
        except Timeout as over:
            if over is not limit:
                raise
            raise ssh.too_late(self.host.name, BEGIN_SECONDS) from None
        finally:
            limit.close()
            writer.kill(block=False)
            kill()

    def _failure(self, error: HostError) -> tuple[bool, CommandOutput]:
        """Return an error as a failed command's output; report the host's failure once."""
        if not self.reported:
            self.reported = True
            progress.event("error", host=self.host.name, name="Commands over SSH")
        words = (f"error: {error.why}", f"hint: {error.hint}" if error.hint else "")
        return False, CommandOutput([OutputLine("stderr", each) for each in words if each])

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

    def get_file(self, *_: Any, **__: Any) -> bool:
        """Read no file: what a deploy has to know of a host is in its survey."""
        self.host.log("error: certsync's connections do not download files (files.get)")
        return False


def _content(source: Any) -> bytes:
    if isinstance(source, str):
        return Path(source).read_bytes()
    source.seek(0)
    content = source.read()
    return content.encode() if isinstance(content, str) else bytes(content)


def _write(text: Any, stdin: Any) -> None:
    """Write a command's standard input. If it ends early, its exit status tells why."""
    with suppress(OSError, ValueError):
        if text:
            write_stdin(text, stdin)  # type: ignore[no-untyped-call]  # pyinfra's own
        stdin.close()


def _end(child: Popen[bytes]) -> None:
    """End a connection, and what still runs over it; ssh removes its socket."""
    child.terminate()
    try:
        child.wait(2)
    except TimeoutExpired:
        _kill(child)


def _kill(child: Popen[bytes]) -> None:
    """Kill an ssh that still runs, with its children: a ProxyCommand would outlive it."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def use_openssh() -> None:
    """Have pyinfra, which has no hosts yet, reach them by `OpenSSH` in place of paramiko."""
    # A connector of another name would have to be installed, and be part of each host's name.
    pyinfra.connectors.ssh.SSHConnector = OpenSSH  # type: ignore[assignment,misc]  # that is the point

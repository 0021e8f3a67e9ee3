"""What pyinfra reads and writes on a host whose login shell prints, or runs nothing."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest
from paramiko import SSHException
from pyinfra.api import StringCommand
from pyinfra.connectors.ssh import SSHConnector

from certsync.model import frame
from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Survey
from deploy import answers, shell, surveys
from tests.unit.fake_fleet import machine

NOISE = "echo 'Welcome'; printf 'no end of line'; echo careful >&2; "


class Login:
    """A login shell of this machine in the place of a host's SSH: a client of paramiko's."""

    noise = NOISE
    ends_after: int | None = None
    """Bytes of standard input that arrive; None: all."""

    status: int | None = None
    """The exit status that is told in place of the real one: -1 where a connection is lost."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    def exec_command(self, command: str, get_pty: bool) -> tuple[Any, Any, None]:
        """Return what a command reads and prints; it runs once it is listened to."""
        assert not get_pty
        self.asked.append(command)
        channel = Channel(self, command)
        return channel.stdin, SimpleNamespace(channel=channel), None

    def close(self) -> None:
        """Close the connection."""
        self.closed = True


class Stdin(BytesIO):
    def close(self) -> None:
        """Stay readable."""


class Output:
    """What a command prints, once somebody reads it: until then its input is written."""

    def __init__(self, run: Callable[[], bytes]) -> None:
        self.run, self.file = run, BytesIO()
        self.has_run = False

    def readline(self, size: int) -> bytes:
        """Return the next line, or its next part."""
        if not self.has_run:
            self.has_run, self.file = True, BytesIO(self.run())
        return self.file.readline(size)


class Channel:
    """One command on it."""

    def __init__(self, login: Login, command: str) -> None:
        self.login, self.command, self.stdin = login, command, Stdin()
        self.status_event = threading.Event()

    def makefile(self, _mode: str) -> Any:
        """Return its output."""
        return Output(self.run)

    def run(self) -> bytes:
        """Run the command as sshd would, and return what it prints."""
        self.done = subprocess.run(
            ["bash", "-c", f"{self.login.noise}\neval {shlex.quote(self.command)}"],
            input=self.stdin.getvalue()[: self.login.ends_after],
            capture_output=True,
        )
        self.status_event.set()
        return self.done.stdout

    def makefile_stderr(self, _mode: str) -> Any:
        """Return its other output."""
        return Output(lambda: self.done.stderr)

    def recv_exit_status(self) -> int:
        """Return its exit status."""
        return self.done.returncode if self.login.status is None else self.login.status


class Said:
    """An output that comes line by line, when a test wants it to."""

    def __init__(self, lines: Iterator[Any]) -> None:
        self.lines = lines

    def readline(self, _size: int) -> Any:
        """Return the next line."""
        return next(self.lines, b"")


@pytest.fixture
def login() -> Login:
    """Return the login shell that a host's commands are given to."""
    return Login()


@pytest.fixture
def logged() -> list[str]:
    """Return what is logged of the host."""
    return []


@pytest.fixture
def connector(logged: list[str], login: Login) -> shell.Framed:
    """Return a connector as `frame_answers` makes it."""
    data = SimpleNamespace(machine=machine("backend-03", 13))
    host = SimpleNamespace(name="backend-03", data=data, log=logged.append, print_prefix="")
    host.connector_data = {}
    host.connector = SSHConnector.__new__(SSHConnector)
    host.connector.host, host.connector.client = host, login
    state: Any = SimpleNamespace(activated_hosts=[host])
    host.connector.state = state
    for _ in range(2):
        shell.frame_answers(state)
    assert isinstance(host.connector, shell.Framed)
    return host.connector


def test_what_a_login_shell_prints_is_in_no_fact(connector: shell.Framed) -> None:
    status, output = connector.run_shell_command(StringCommand("echo yes; echo why >&2; exit 3"))
    assert (status, output.stdout_lines, output.stderr_lines) == (False, ["yes"], ["why"])
    status, output = connector.run_shell_command(StringCommand("true"))
    assert (status, output.combined_lines) == (True, [])


def test_a_command_that_depends_on_what_pyinfra_puts_before_it_does_not_run_without(
    connector: shell.Framed, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    status, _ = connector.run_shell_command(
        StringCommand(f"touch {mark}"), _chdir=f"{tmp_path}/missing"
    )
    assert not status
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [StringIO("ä\n\n"), StringIO(""), BytesIO(bytes(range(256)) * 9000)],
    ids=["text", "nothing", "two megabytes of anything"],
)  # fmt: skip
def test_a_file_is_written_as_it_is_past_all_that_is_printed(
    connector: shell.Framed, content: StringIO | BytesIO, tmp_path: Path
) -> None:
    path = tmp_path / "it's here"
    whole = content.getvalue()
    assert connector.put_file(content, str(path))
    assert path.read_bytes() == (whole.encode() if isinstance(whole, str) else whole)


def test_a_file_of_this_machine_is_written_too(connector: shell.Framed, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"PK\x00\xff")
    assert connector.put_file(str(tmp_path / "a.whl"), str(tmp_path / "b.whl"))
    assert (tmp_path / "b.whl").read_bytes() == b"PK\x00\xff"


def test_one_that_does_not_arrive_whole_leaves_the_one_that_is_there(
    connector: shell.Framed, login: Login, logged: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    login.ends_after = 5
    assert not connector.put_file(StringIO("after, and longer\n"), str(path))
    assert path.read_text() == "before\n"
    assert logged == ["error: the upload was incomplete"]


@pytest.mark.parametrize(
    "noise",
    [
        "trap 'echo bye; echo bye >&2' EXIT", "trap 'printf bye' EXIT", "exec 2>&1",
        "printf '\\377\\376hello\\n'", "(sleep 0.3; echo late; echo late >&2) &",
    ],
)  # fmt: skip
def test_what_a_login_shell_prints_behind_an_answer_is_no_part_of_it(
    connector: shell.Framed, login: Login, noise: str
) -> None:
    login.noise = noise
    for command, said in (
        ("echo yes", ["yes"]), ("printf yes", ["yes"]), ("echo; echo", ["", ""]), ("true", []),
    ):  # fmt: skip
        status, output = connector.run_shell_command(StringCommand(command))
        assert (status, output.stdout_lines, output.stderr_lines) == (True, said, [])
    status, output = connector.run_shell_command(StringCommand("trap 'echo own' EXIT; exit 3"))
    assert (status, output.stdout_lines) == (False, ["own"])


@pytest.mark.parametrize(
    "lost", [EOFError(), OSError("Socket is closed"), SSHException("SSH session not active")]
)
def test_a_connection_that_is_lost_fails_its_own_host_alone(
    connector: shell.Framed, login: Login, monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise lost

    monkeypatch.setattr(login, "exec_command", fail)
    status, output = connector.run_shell_command(StringCommand("echo yes"))
    assert not status
    assert output.stderr_lines[0] == "error: the connection ended while a command ran"


def test_a_connection_that_ends_before_its_command_does_is_no_answer(
    connector: shell.Framed, login: Login
) -> None:
    login.status = -1
    status, output = connector.run_shell_command(StringCommand("echo yes; echo why >&2"))
    assert not status
    assert output.stdout_lines == []
    assert output.stderr_lines[0] == "error: the connection ended while a command ran: why"


def test_a_host_that_says_that_sudo_wants_a_password_has_nobody_asked_for_one(
    connector: shell.Framed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any) -> str:
        raise AssertionError("the operator is asked for a password")

    monkeypatch.setattr("pyinfra.connectors.util.getpass", ask)
    words = "echo 'sudo: a password is required' >&2; exit 1"
    status, output = connector.run_shell_command(StringCommand(words))
    assert (status, output.stderr_lines) == (False, ["sudo: a password is required"])


def test_sudo_takes_the_login_shells_place_and_speaks_english(
    connector: shell.Framed, login: Login
) -> None:
    connector.run_shell_command(StringCommand("true"), _sudo=True)
    assert login.asked[0].startswith("exec env LC_ALL=C sudo -H -n sh -c ")


def test_a_login_shell_that_never_begins_a_command_is_given_up_once_and_for_all(
    connector: shell.Framed, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.1)
    monkeypatch.setattr(Channel, "makefile", lambda *_: Said(iter(lambda: gevent.sleep(60), 1)))
    monkeypatch.setattr(Channel, "makefile_stderr", lambda *_: BytesIO())
    for _ in range(2):
        status, output = connector.run_shell_command(StringCommand("true"))
        assert not status
        why = "error: its login shell did not start our command within 0.1 s"
        assert output.stderr_lines[0] == why
    assert login.closed
    assert len(login.asked) == 1


def test_a_command_that_has_begun_may_take_longer(
    connector: shell.Framed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.1)

    def said(channel: Channel, *_: Any) -> Any:
        channel.status_event.set()
        yield f"{frame.BEGIN}\n".encode()
        gevent.sleep(0.3)
        yield b"yes\n"

    monkeypatch.setattr(Channel, "makefile", lambda *channel: Said(said(*channel)))
    monkeypatch.setattr(Channel, "makefile_stderr", lambda *_: BytesIO())
    monkeypatch.setattr(Channel, "recv_exit_status", lambda *_: 0)
    status, output = connector.run_shell_command(StringCommand("true"))
    assert (status, output.stdout_lines) == (True, ["yes"])


@pytest.mark.parametrize("what", ["yes", "tr '\\\\0' x < /dev/zero"], ids=["lines", "one line"])
def test_a_host_that_writes_without_end_fails_alone(
    connector: shell.Framed, login: Login, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(shell, "MOST_BYTES", 100_000)
    monkeypatch.setattr(shell, "LONGEST_LINE", 5_000)
    status, output = connector.run_shell_command(StringCommand(f"{what} | head -c 200000"))
    assert not status
    assert output.stdout_lines == []
    assert output.stderr_lines[0].startswith("error: a command wrote more than ")
    assert login.closed


def test_a_command_that_never_ends_is_given_up(
    connector: shell.Framed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "LONGEST_SECONDS", 0.1)

    def said(_channel: Channel, *_: Any) -> Any:
        yield f"{frame.BEGIN}\n".encode()
        gevent.sleep(60)

    monkeypatch.setattr(Channel, "makefile", lambda *channel: Said(said(*channel)))
    monkeypatch.setattr(Channel, "makefile_stderr", lambda *_: BytesIO())
    with pytest.raises(TimeoutError):
        connector.run_shell_command(StringCommand("true"))


def test_an_upload_may_take_longer_than_a_command_may_take_to_begin(
    connector: shell.Framed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.2)
    written = gevent.event.Event()

    def write(*_: Any) -> None:
        gevent.sleep(0.5)
        written.set()

    def said(channel: Channel, *_: Any) -> Any:
        channel.status_event.set()
        yield f"{frame.BEGIN}\n".encode()
        written.wait()

    monkeypatch.setattr(shell, "write_stdin", write)
    monkeypatch.setattr(Channel, "makefile", lambda *channel: Said(said(*channel)))
    monkeypatch.setattr(Channel, "makefile_stderr", lambda *_: BytesIO())
    monkeypatch.setattr(Channel, "recv_exit_status", lambda *_: 0)
    assert connector.put_file(StringIO("slow\n"), "/etc/x")


def test_a_login_shell_that_runs_no_command_fails_its_host_with_where_to_look(
    connector: shell.Framed, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("CERTSYNC_EVENTS", str(writing))
    login.noise = "echo 'back at nine'; exit 0; "
    for _ in range(2):
        status, output = connector.run_shell_command(StringCommand("echo yes"))
        assert not status
        assert output.stdout_lines == []
        why, hint = output.stderr_lines
        assert why == "error: its login shell does not run commands: back at nine"
        assert hint.startswith("hint: look at ~/.bashrc (/root/.bashrc)")
    os.close(writing)
    with os.fdopen(reading) as events:
        told = [json.loads(line) for line in events]
    assert told == [{"event": "error", "host": "backend-03", "name": "Commands over SSH"}]


def test_nonsense_in_place_of_what_a_host_is_like_ends_nothing() -> None:
    nonsense = [
        "", "issuer", "Welcome to Debian", "os", "time now", "disk ?", "python three",
        "listener", "listener  x y", "listener 80  nginx", "nginx", "known", "limit", "haproxy",
    ]  # fmt: skip
    many = "9" * 5000
    nonsense += [f"time {many}", f"disk {many}", f"python {many}.9", f"listener 80 {many} x"]
    assert facts.parse(nonsense) == HostFacts(issuer=True)
    assert surveys.Look.default() == Survey()
    assert answers.Answer().process(["[]"]) == {}
    assert answers.Answer().process(["[" * 100_000]) == {}

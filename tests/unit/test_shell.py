"""What pyinfra reads and writes on a host whose login shell prints, or runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, OutputLine, make_unix_command

from certsync import look
from certsync.look import Surroundings
from deploy import facts, shell
from tests.unit.fake_fleet import machine

NOISE = "echo 'Welcome'; printf 'no end of line'; echo careful >&2; "


class Login:
    """A login shell of this machine in the place of pyinfra's SSH."""

    noise = NOISE
    cut_off_after: int | None = None
    """Bytes of standard input that arrive; None: all."""

    def __call__(self, command: Any, *_: Any, **arguments: Any) -> tuple[bool, CommandOutput]:
        """Run a command as sshd would, and split what is printed as pyinfra does."""
        text = "".join(f"{line}\n" for line in arguments.pop("_stdin", None) or [])
        unix = make_unix_command(command, **arguments).get_raw_value()
        done = subprocess.run(
            ["sh", "-c", f"{self.noise}{unix}"],
            input=text[: self.cut_off_after],
            capture_output=True,
            text=True,
        )
        said = [OutputLine("stderr", line) for line in done.stderr.splitlines()]
        said += [OutputLine("stdout", line) for line in done.stdout.splitlines()]
        return done.returncode == 0, CommandOutput(said)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the login shell that a host's commands are given to."""
    made = Login()
    monkeypatch.setattr(
        SSHConnector, "run_shell_command", lambda _self, *words, **more: made(*words, **more)
    )
    return made


@pytest.fixture
def logged() -> list[str]:
    """Return what is logged of the host."""
    return []


@pytest.fixture
def connector(logged: list[str]) -> shell.Framed:
    """Return a connector as `frame_answers` makes it."""
    data = SimpleNamespace(machine=machine("backend-03", 13))
    host = SimpleNamespace(name="backend-03", data=data, log=logged.append)
    host.connector = SSHConnector.__new__(SSHConnector)
    host.connector.host = host
    state: Any = SimpleNamespace(activated_hosts=[host])
    for _ in range(2):
        shell.frame_answers(state)
    assert isinstance(host.connector, shell.Framed)
    return host.connector


@pytest.mark.usefixtures("login")
def test_what_a_login_shell_prints_is_in_no_fact(connector: shell.Framed) -> None:
    status, output = connector.run_shell_command(StringCommand("echo yes; echo why >&2; exit 3"))
    assert (status, output.stdout_lines, output.stderr_lines) == (False, ["yes"], ["why"])
    status, output = connector.run_shell_command(StringCommand("true"))
    assert (status, output.combined_lines) == (True, [])


@pytest.mark.usefixtures("login")
def test_a_command_that_depends_on_what_pyinfra_puts_before_it_does_not_run_without(
    connector: shell.Framed, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    status, _ = connector.run_shell_command(
        StringCommand(f"touch {mark}"), _chdir=f"{tmp_path}/missing"
    )
    assert not status
    assert not mark.exists()


@pytest.mark.usefixtures("login")
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


@pytest.mark.usefixtures("login")
def test_a_file_of_this_machine_is_written_too(connector: shell.Framed, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"PK\x00\xff")
    assert connector.put_file(str(tmp_path / "a.whl"), str(tmp_path / "b.whl"))
    assert (tmp_path / "b.whl").read_bytes() == b"PK\x00\xff"


def test_one_that_does_not_arrive_whole_leaves_the_one_that_is_there(
    connector: shell.Framed, login: Login, logged: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    login.cut_off_after = 5
    assert not connector.put_file(StringIO("after, and longer\n"), str(path))
    assert path.read_text() == "before\n"
    assert logged == ["error: what was sent did not arrive whole"]


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
        assert output.stderr_lines[0] == ("error: its login shell runs no command: back at nine")
        assert output.stderr_lines[1].startswith("hint: look at ~/.bashrc (/root/.bashrc)")
    os.close(writing)
    with os.fdopen(reading) as events:
        told = [json.loads(line) for line in events]
    assert told == [{"event": "error", "host": "backend-03", "name": "Commands over SSH"}]


def test_nonsense_in_place_of_what_a_host_is_like_ends_nothing() -> None:
    nonsense = [
        "", "issuer", "Welcome to Debian", "os", "time now", "disk ?", "python three",
        "listener", "listener  x y", "listener 80  nginx", "nginx", "known", "limit", "haproxy",
    ]  # fmt: skip
    assert look.parse(nonsense) == Surroundings(issuer=True)
    assert facts.Standing.default() == Surroundings()
    assert facts.Answer().process(["[]"]) == {}

"""What pyinfra reads and writes on a host whose login shell prints, or runs nothing."""

from __future__ import annotations

import json
import os
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import Inventory, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors import ssh as pyinfra_ssh

from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Survey
from certsync.system import ssh
from deploy import answers, output, progress, shell, surveys
from tests.unit.fake_fleet import fleet, machine

NOISE = "echo 'Welcome'; printf 'no end of line'; echo careful >&2; "
RUN = 'eval "$1"'


class Login:
    """A login shell of this machine in the place of ssh(1) and a host's sshd."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "login"
        self.asked = folder / "asked"
        self.asked.touch()
        self.does(f"{NOISE}{RUN}")

    def does(self, script: str) -> None:
        """Have it do this with a command, which is `$1`."""
        self.program.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$1\" >> {self.asked}\n{script}\n")
        self.program.chmod(0o755)

    def commands(self) -> list[str]:
        """Return the commands that were given to it."""
        return self.asked.read_text().split("\0")[:-1]


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Login:
    """Return the login shell that a host's commands are given to."""
    made = Login(tmp_path)
    monkeypatch.setattr(ssh, "ssh_argv", lambda *_: [str(made.program)])
    return made


@pytest.fixture
def logged() -> list[str]:
    """Return what is logged of the host."""
    return []


@pytest.fixture
def connector(logged: list[str], login: Login) -> shell.OpenSSH:
    """Return a host's connector before it is connected."""
    assert login.commands() == []
    data = {"machine": machine("backend-03", 13), "fleet": fleet()}
    host: Any = SimpleNamespace(name="backend-03", log=logged.append, print_prefix="")
    host.data, host.connector_data = SimpleNamespace(**data), {}
    made = shell.OpenSSH.__new__(shell.OpenSSH)
    made.host, made.state = host, SimpleNamespace()  # type: ignore[assignment]  # a fake
    return made


def test_what_a_login_shell_prints_is_in_no_fact(connector: shell.OpenSSH) -> None:
    status, printed = connector.run_shell_command(StringCommand("echo yes; echo why >&2; exit 3"))
    assert (status, printed.stdout_lines, printed.stderr_lines) == (False, ["yes"], ["why"])
    status, printed = connector.run_shell_command(StringCommand("true"))
    assert (status, printed.combined_lines) == (True, [])


def test_a_command_that_depends_on_what_pyinfra_puts_before_it_does_not_run_without(
    connector: shell.OpenSSH, tmp_path: Path
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
    connector: shell.OpenSSH, content: StringIO | BytesIO, tmp_path: Path
) -> None:
    path = tmp_path / "it's here"
    whole = content.getvalue()
    assert connector.put_file(content, str(path))
    assert path.read_bytes() == (whole.encode() if isinstance(whole, str) else whole)


def test_a_file_of_this_machine_is_written_too(connector: shell.OpenSSH, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"PK\x00\xff")
    assert connector.put_file(str(tmp_path / "a.whl"), str(tmp_path / "b.whl"))
    assert (tmp_path / "b.whl").read_bytes() == b"PK\x00\xff"


def test_one_that_does_not_arrive_whole_leaves_the_one_that_is_there(
    connector: shell.OpenSSH, login: Login, logged: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    login.does(f"head -c 5 | ({RUN})")
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
    connector: shell.OpenSSH, login: Login, noise: str
) -> None:
    login.does(f"{noise}\n{RUN}")
    for command, said in (
        ("echo yes", ["yes"]), ("printf yes", ["yes"]), ("echo; echo", ["", ""]), ("true", []),
    ):  # fmt: skip
        status, printed = connector.run_shell_command(StringCommand(command))
        assert (status, printed.stdout_lines, printed.stderr_lines) == (True, said, [])
    status, printed = connector.run_shell_command(StringCommand("trap 'echo own' EXIT; exit 3"))
    assert (status, printed.stdout_lines) == (False, ["own"])


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (
            "ssh: connect to host a port 22: Connection refused",
            "nothing listens for SSH",
        ),
        (
            "root@203.0.113.13: Permission denied (publickey).",
            "it does not accept the SSH key",
        ),
        ("client_loop: send disconnect: Broken pipe", "client_loop: send disconnect: Broken pipe"),
    ],
)
def test_a_connection_that_fails_fails_its_own_host_alone(
    connector: shell.OpenSSH, login: Login, printed: str, why: str
) -> None:
    login.does(f"echo '{printed}' >&2; exit 255")
    status, output = connector.run_shell_command(StringCommand("echo yes"))
    assert not status
    assert output.stderr_lines[0] == f"error: {why}"


def test_a_connection_that_ends_before_its_command_does_is_no_answer(
    connector: shell.OpenSSH, login: Login
) -> None:
    login.does(f"({RUN}) | grep -v 'that was the answer'; exit 255")
    status, printed = connector.run_shell_command(StringCommand("echo yes"))
    assert not status
    assert printed.stdout_lines == []
    assert printed.stderr_lines[0] == "error: the connection ended while a command ran"


def test_a_commands_own_exit_status_255_is_not_a_lost_connection(connector: shell.OpenSSH) -> None:
    status, printed = connector.run_shell_command(StringCommand("echo yes; exit 255"))
    assert (status, printed.stdout_lines) == (False, ["yes"])


def test_a_host_that_prints_without_end_fails_alone(
    connector: shell.OpenSSH, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (output, shell):
        monkeypatch.setattr(module, "MAX_OUTPUT", 100_000)
    status, printed = connector.run_shell_command(StringCommand("echo yes; yes"))
    assert not status
    assert printed.stderr_lines[0] == "error: it printed more than 100000 bytes"
    assert not connector.run_shell_command(StringCommand("true"))[0]
    assert len(login.commands()) == 1


def test_a_host_that_says_that_sudo_wants_a_password_has_nobody_asked_for_one(
    connector: shell.OpenSSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any) -> str:
        raise AssertionError("the operator is asked for a password")

    monkeypatch.setattr("pyinfra.connectors.util.getpass", ask)
    words = "echo 'sudo: a password is required' >&2; exit 1"
    status, printed = connector.run_shell_command(StringCommand(words))
    assert (status, printed.stderr_lines) == (False, ["sudo: a password is required"])


def test_sudo_takes_the_login_shells_place_and_speaks_english(
    connector: shell.OpenSSH, login: Login
) -> None:
    connector.run_shell_command(StringCommand("true"), _sudo=True)
    assert login.commands()[0].startswith("exec env LC_ALL=C sudo -H -n sh -c ")


def test_a_login_shell_that_never_begins_a_command_is_given_up_once_and_for_all(
    connector: shell.OpenSSH, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.2)
    login.does("exec sleep 60")
    for _ in range(2):
        status, printed = connector.run_shell_command(StringCommand("true"))
        assert not status
        why = "error: its login shell did not start our command within 0.2 s"
        assert printed.stderr_lines[0] == why
    assert len(login.commands()) == 1


def test_a_command_that_has_begun_may_take_longer(
    connector: shell.OpenSSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.5)
    status, printed = connector.run_shell_command(StringCommand("sleep 1; echo yes"))
    assert (status, printed.stdout_lines) == (True, ["yes"])


def test_a_command_that_never_ends_is_given_up(
    connector: shell.OpenSSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "LONGEST_SECONDS", 0.5)
    with pytest.raises(TimeoutError):
        connector.run_shell_command(StringCommand("sleep 60"))


def test_an_upload_may_take_longer_than_a_command_may_take_to_begin(
    connector: shell.OpenSSH, login: Login, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.5)
    login.does(f"(sleep 1; cat) | ({RUN})")
    content = "slow\n" * 100_000
    assert connector.put_file(StringIO(content), str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == content


def test_a_login_shell_that_runs_no_command_fails_its_host_with_where_to_look(
    connector: shell.OpenSSH, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv("CERTSYNC_EVENTS", str(writing))
    login.does("echo 'back at nine'; exit 0")
    for _ in range(2):
        status, printed = connector.run_shell_command(StringCommand("echo yes"))
        assert not status
        assert printed.stdout_lines == []
        why, hint = printed.stderr_lines
        assert why == "error: its login shell does not run commands: back at nine"
        assert hint.startswith("hint: look at ~/.bashrc (/root/.bashrc)")
    os.close(writing)
    with os.fdopen(reading) as events:
        told = [json.loads(line) for line in events]
    assert told == [{"event": "error", "host": "backend-03", "name": "Commands over SSH"}]


def test_one_connection_is_opened_for_all_commands_and_ends_with_pyinfra(
    connector: shell.OpenSSH, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def argv(_machine: object, _known_hosts: str, *options: str) -> list[str]:
        asked.append(options)
        return [str(login.program)]

    monkeypatch.setattr(ssh, "ssh_argv", argv)
    monkeypatch.setattr(progress, "ending", [])
    connector.connect()
    assert connector.run_shell_command(StringCommand("true"))[0]
    (opens, uses) = asked
    assert opens[:2] == ("-o", "ControlMaster=yes")
    assert uses[:2] == ("-o", "ControlMaster=no")
    assert opens[-1] == uses[-1]
    folder = Path(opens[-1].removeprefix("ControlPath=")).parent
    assert folder.exists()
    (end,) = progress.ending
    end()
    connector.disconnect()
    assert not folder.exists()
    assert ssh.through(connector.host.data.machine) == []


@pytest.mark.parametrize(
    ("script", "why", "hint"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "its SSH host key is not known here",
         "connect once by hand"),
        ("echo 'back at nine'; exit 0", "its login shell does not run commands: back at nine",
         "look at ~/.bashrc"),
        ("exec sleep 60", "its login shell did not start our command within 0.5 s",
         "look at ~/.bashrc"),
    ],
)  # fmt: skip
def test_a_host_that_cannot_be_connected_says_why_and_what_to_try(
    connector: shell.OpenSSH, login: Login, logged: list[str], monkeypatch: pytest.MonkeyPatch,
    script: str, why: str, hint: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(shell, "BEGIN_SECONDS", 0.5)
    login.does(script)
    with pytest.raises(ConnectError) as caught:
        connector.connect()
    assert caught.value.args == (f"error: {why}",)
    assert logged[0].startswith(f"hint: {hint}")
    assert ssh.through(connector.host.data.machine) == []


def test_a_host_that_somebody_has_added_to_an_inventory_ends_no_run(
    connector: shell.OpenSSH,
) -> None:
    del connector.host.data.machine
    with pytest.raises(ConnectError, match="it is no machine of the fleet file"):
        connector.connect()


def test_a_machine_without_ssh_is_told_of_and_ends_no_run(
    connector: shell.OpenSSH, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "ssh_argv", lambda *_: ["/no/such/ssh"])
    why = "error: /no/such/ssh cannot be run here: No such file or directory"
    with pytest.raises(ConnectError) as caught:
        connector.connect()
    assert caught.value.args == (why,)
    status, printed = connector.run_shell_command(StringCommand("true"))
    assert (status, printed.stderr_lines) == (False, [why])


def test_a_download_fails_its_own_host_with_a_word(
    connector: shell.OpenSSH, logged: list[str]
) -> None:
    assert not connector.get_file("/etc/hostname", "hostname")
    assert logged == ["error: certsync's connections do not download files (files.get)"]


def test_pyinfra_reaches_hosts_by_openssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyinfra_ssh, "SSHConnector", pyinfra_ssh.SSHConnector)
    shell.use_openssh()
    inventory = Inventory((["backend-01"], {}))  # type: ignore[no-untyped-call]  # its own
    assert inventory.get_host("backend-01").connector_cls is shell.OpenSSH


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

"""What is read from a host over the operator's SSH: its answer, and nothing that came before it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model import frame
from certsync.model.answers import PROTOCOL
from certsync.model.errors import HostError, LockHeldError, LockLostError, UnreachableError
from certsync.model.fleet import Machine
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.programs import lock
from certsync.system import process, ssh
from tests.unit.fake_fleet import fleet, machine

BECOMES_ROOT = 'shift; exec "$@"'
ADMIN = machine("backend-01", 11, ssh_user="admin")
ROOT = machine("backend-01", 11)
FakeSsh = Callable[..., None]


@pytest.fixture
def login_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSsh:
    """Return what sets up a login shell here that begins with ``noise``, and a sudo."""

    def set_up(noise: str = "", sudo: str = BECOMES_ROOT) -> None:
        program = tmp_path / "sudo"
        program.write_text(f"#!/bin/sh\n{sudo}\n")
        program.chmod(0o755)
        # The last word is the command, as sshd hands it to the login shell.
        shell = tmp_path / "shell"
        shell.write_text(f'#!/bin/bash\n{noise}\neval "$1"\n')
        shell.chmod(0o755)
        monkeypatch.setattr(ssh, "ssh_argv", lambda *_: [str(shell)])
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return set_up


FRENCH = """\
if [ "${LC_ALL-}" = C ]; then echo 'Status: active'; else echo 'État : actif'; fi
"""
"""A program that speaks French, unless it is asked not to."""


@pytest.mark.parametrize("who", [ADMIN, ROOT], ids=["admin", "root"])
@pytest.mark.parametrize("framed", [frame.framed, frame.begun])
def test_every_command_speaks_english_whatever_the_hosts_language_is(
    login_shell: FakeSsh, tmp_path: Path, who: Machine, framed: Callable[[str], str]
) -> None:
    login_shell("export LC_ALL=fr_FR.UTF-8 LANG=fr_FR.UTF-8")
    spoken = tmp_path / "spoken"
    spoken.write_text(f"#!/bin/sh\n{FRENCH}")
    spoken.chmod(0o755)
    assert ssh.on(who, "", "spoken").stdout == "Status: active\n"
    done = process.run([*ssh.ssh_argv(who, ""), ssh.as_root(who, framed("spoken"))])
    assert "Status: active" in done.stdout


MASTER = """
for each; do
    case $each in
        ControlPath=*) path=${each#ControlPath=} ;;
        ControlMaster=yes) opens=yes ;;
    esac
done
if [ "$opens" ]; then sleep 0.5; %s; fi
[ -e "$path" ] || echo alone
eval "${@: -1}"
"""
"""An ssh whose connection takes a while to open; a command says if it does not go over it."""


@pytest.mark.parametrize(
    ("opened", "said"), [('touch "$path"; exec cat', ""), ("exit 255", "alone")]
)
def test_a_command_waits_for_the_connection_that_is_being_opened(
    monkeypatch: pytest.MonkeyPatch, opened: str, said: str
) -> None:
    script = ["bash", "-c", MASTER % opened, "ssh"]
    monkeypatch.setattr(ssh, "ssh_argv", lambda _machine, _known, *options: [*script, *options])
    begin = time.monotonic()
    with ssh.opened([ROOT], ""):
        assert ssh.on(ROOT, "", "true").noise == said
    assert time.monotonic() - begin < ssh.CONNECT_SECONDS / 2
    assert ssh.through(ROOT) == []


UNRESOLVED = "echo 'sudo: unable to resolve host backend-01: Name or service not known' >&2"


@pytest.mark.parametrize("status", [0, 1, 3, 75])
def test_a_host_that_cannot_resolve_its_own_name_still_answers_with_its_own_status(
    login_shell: FakeSsh, status: int
) -> None:
    login_shell(sudo=f"{UNRESOLVED}; {BECOMES_ROOT}")
    done = ssh.on(ADMIN, "", f"echo yes; echo why >&2; exit {status}")
    assert (done.status, done.stdout, done.stderr) == (status, "yes\n", "why\n")


@pytest.mark.parametrize(
    "words",
    [
        "sudo: a password is required",
        "sudo: unable to resolve host x: Name or service not known\nsudo: a password is required",
        "admin is not in the sudoers file.",
        "Sorry, user admin is not allowed to execute '/bin/sh' as root on backend-01.",
        "sudo: sorry, you must have a tty to run sudo",
        "sudo: a terminal is required to read the password",
        "sudo-rs: interactive authentication is required",
        "sudo: I'm sorry admin. I'm afraid I can't do that",
        "bash: line 1: sudo: command not found",
        "sh: 1: sudo: not found",
        "zsh:1: command not found: sudo",
        "-bash: sudo: Permission denied",
        "env: 'sudo': No such file or directory",
        "Leider darf der Benutzer admin sudo auf backend-01 nicht ausführen.",
    ],
)
def test_a_sudo_that_refuses_is_told_with_what_allows_it(login_shell: FakeSsh, words: str) -> None:
    login_shell(sudo=f'echo "{words}" >&2; exit 1')
    with pytest.raises(HostError) as caught:
        ssh.on(ADMIN, "", "echo yes")
    assert caught.value.message.startswith("backend-01: admin cannot become root: ")
    assert words.splitlines()[-1] in caught.value.message
    assert "NOPASSWD" in caught.value.hint


NOISE = "echo 'Welcome to backend-01'; printf 'no end of line'; echo careful >&2"


@pytest.mark.parametrize("who", [ADMIN, ROOT], ids=["admin", "root"])
def test_what_a_login_shell_prints_is_no_part_of_the_answer(
    login_shell: FakeSsh, who: Machine
) -> None:
    login_shell(NOISE)
    done = ssh.on(who, "", "\ncat; echo why >&2; exit 4", input="{}\n")
    assert (done.status, done.stdout, done.stderr) == (4, "{}\n", "why\n")
    assert done.noise == "Welcome to backend-01\nno end of line"
    login_shell()
    assert ssh.on(who, "", "true").noise == ""


def test_a_shell_that_prints_the_commands_that_it_runs_begins_no_answer_with_them(
    login_shell: FakeSsh,
) -> None:
    login_shell('echo "running: $1"; set -x')
    done = ssh.on(ADMIN, "", "echo yes")
    assert done.stdout == "yes\n"
    assert frame.answer("no mark here\n") is None


@pytest.mark.parametrize("who", [ADMIN, ROOT], ids=["admin", "root"])
@pytest.mark.parametrize(
    "noise",
    [
        "trap 'echo bye; echo bye >&2' EXIT", "trap 'printf bye' EXIT", "exec 2>&1",
        "(sleep 0.3; echo late; echo late >&2) &",
    ],
)  # fmt: skip
def test_what_a_login_shell_prints_behind_an_answer_is_no_part_of_it(
    login_shell: FakeSsh, who: Machine, noise: str
) -> None:
    login_shell(noise)
    for command, said in (("echo yes", "yes\n"), ("printf yes", "yes"), ("true", "")):
        done = ssh.on(who, "", command)
        assert (done.status, done.stdout, done.stderr) == (0, said, "")
    assert ssh.on(who, "", "exit 255").status == 255


def test_the_end_of_a_connection_is_told_by_nothing_that_a_command_said(
    login_shell: FakeSsh,
) -> None:
    login_shell()
    # The shell between the marks is ended, as a connection is.
    lost = "echo 'curl: (7) Connection refused' >&2; kill -9 $$"
    with pytest.MonkeyPatch.context() as patch:
        real = process.run
        patch.setattr(
            process, "run", lambda *words, **more: replace(real(*words, **more), status=255)
        )
        with pytest.raises(UnreachableError) as caught:
            ssh.on(ROOT, "", lost)
    assert caught.value.message == (
        "backend-01: the connection ended while a command ran: curl: (7) Connection refused"
    )


def test_a_mark_of_ours_is_in_no_message(login_shell: FakeSsh) -> None:
    login_shell("exec >/dev/null")
    with pytest.raises(HostError) as caught:
        ssh.on(ROOT, "", "true")
    assert "6f1d0c52" not in caught.value.message
    assert (
        "6f1d0c52"
        not in ssh.not_begun(ADMIN, process.Completed(1, "", f"\n{frame.BEGIN}\nno\n")).message
    )


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ("echo 'This account is currently not available.'; exit 1",
         "This account is currently not available."),
        ("exit 0", "exit status 0 without output"),
    ],
)  # fmt: skip
def test_a_login_shell_that_runs_no_command_is_told_with_where_to_look(
    login_shell: FakeSsh, noise: str, words: str
) -> None:
    login_shell(noise)
    for ask in (lambda: ssh.on(ADMIN, "", "echo yes"), take_lock):
        with pytest.raises(HostError) as caught:
            ask()
        assert caught.value.message == f"backend-01: its login shell does not run commands: {words}"
        assert "/root/.bashrc" in caught.value.hint


@pytest.mark.parametrize(
    ("noise", "sudo"),
    [
        ("echo 'Password change required but no TTY available.' >&2; exit 1", "exit 1"),
        ("", "echo 'sudo: Account or password is expired, reset your password' >&2; exit 1"),
        ("", "echo 'sudo: Password expired, contact your system administrator' >&2; exit 1"),
        ("", "echo 'sudo: account validation failure, is your account locked?' >&2; exit 1"),
        ("echo 'Your account has expired; please contact the administrator.'; exit 1", ""),
    ],
)
def test_an_expired_password_is_told_with_what_renews_it(
    login_shell: FakeSsh, noise: str, sudo: str
) -> None:
    login_shell(noise, sudo=sudo)
    with pytest.raises(HostError) as caught:
        ssh.on(ADMIN, "", "echo yes")
    assert "backend-01: the password or the account of admin has expired" in caught.value.message
    assert 'chage -d "$(date +%F)" -M -1 -E -1 admin' in caught.value.hint


def test_a_connection_that_is_lost_is_told_as_that(login_shell: FakeSsh) -> None:
    login_shell("echo 'ssh: connect to host x port 22: Connection refused' >&2; exit 255")
    for ask in (lambda: ssh.on(ADMIN, "", "echo yes"), take_lock):
        with pytest.raises(UnreachableError, match="nothing listens for SSH"):
            ask()


HOLDER = """\
from functools import partial
from time import sleep
say, HELD = partial(print, flush=True), '{"held": true, "token": "a"}'
say(HELD)"""
"""A program that says that it holds the lock, whatever it does then."""


def take_lock() -> str:
    noted = replace(fleet(), backends=(ADMIN,))
    with fleet_lock.held(noted, "deploy") as held:
        return held.token


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a program that takes a lock in a folder of the test's own."""
    own = tmp_path / "own_lock.py"
    places = {name: str(tmp_path / name) for name in ("LOCK", "HOLDER", "WORK")}
    text = (Path(lock.__file__)).read_text()
    begin = 'if __name__ == "__main__":'
    own.write_text(text.replace(begin, f"globals().update({places!r})\n{begin}"))
    monkeypatch.setattr(fleet_lock, "PROGRAM", own)
    return own


@pytest.mark.usefixtures("own_lock")
@pytest.mark.parametrize(
    "noise",
    [
        "", NOISE, f"{NOISE}; printf '\\377\\n'", "exec 2>&1",
        "head -c 300000 /dev/zero | tr '\\0' x >&2",
    ],
    ids=["nothing", "a greeting", "bytes", "one output", "more than a pipe takes"],
)  # fmt: skip
def test_the_fleet_lock_is_taken_whatever_a_login_shell_prints(
    login_shell: FakeSsh, noise: str
) -> None:
    login_shell(noise, sudo=f"{UNRESOLVED}; {BECOMES_ROOT}")
    noted = replace(fleet(), backends=(ADMIN,))
    with fleet_lock.held(noted, "deploy") as held:
        assert len(held.token) == 16
        with pytest.raises(LockHeldError, match="has held the fleet lock for "):
            take_lock()
        for _ in range(3):
            held.require()
    assert take_lock() != held.token
    with pytest.raises(LockLostError):
        held.require()


@pytest.mark.parametrize(
    "then",
    ["", "input(); say('x'); input()", "input(); say(HELD.replace('a', 'b')); input()", "sleep(2)"],
    ids=["its program has ended", "nonsense", "another holder", "silence"],
)
def test_a_holder_that_has_lost_the_lock_stops(
    login_shell: FakeSsh, own_lock: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    login_shell("")
    own_lock.write_text(f"{HOLDER}; {then}")
    monkeypatch.setattr(fleet_lock, "STILL_SECONDS", 0.5)
    with (
        fleet_lock.held(replace(fleet(), backends=(ADMIN,)), "deploy") as held,
        pytest.raises(LockLostError, match="the fleet lock on backend-01 was lost") as caught,
    ):
        held.require()
    assert "run the same command again" in caught.value.hint


@pytest.mark.usefixtures("own_lock")
def test_two_promotions_to_different_machines_meet_on_the_backends(login_shell: FakeSsh) -> None:
    login_shell("")
    others = [replace(ADMIN, name=name, address=name) for name in ("backend-02", "backend-03")]
    with fleet_lock.held_on_all(others[:1], "", "promote") as held:
        assert [each.host for each in held] == ["backend-02"]
        # Both are one machine here, with one lock.
        with pytest.raises(LockHeldError), fleet_lock.held_on_all(others, "", "promote"):
            pass
    with fleet_lock.held_on_all(others[1:], "", "promote") as held:
        held[0].require()


def test_a_machine_out_of_reach_is_not_locked(login_shell: FakeSsh) -> None:
    login_shell("echo 'ssh: connect to host x port 22: Connection refused' >&2; exit 255")
    with fleet_lock.held_on_all([ADMIN], "", "promote") as held:
        assert held == []


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('nonsense')", "nonsense"),
        ("print('[]')", "[]"),
        ("raise SystemExit('no such file')", "no such file"),
        ("", "no answer"),
        ('print(\'{"held": "no"}\')', '{"held": "no"}'),
        ("print('{\"held\": true}')", '{"held": true}'),
        ('print(\'{"held": true, "token": 1}\')', '{"held": true, "token": 1}'),
        ("import sys; print('[' * 100000); sys.exit('deep')", "deep"),
    ],
)
def test_nonsense_where_the_fleet_lock_should_answer_is_told(
    login_shell: FakeSsh, own_lock: Path, program: str, words: str
) -> None:
    login_shell(NOISE)
    own_lock.write_text(program)
    with pytest.raises(HostError) as caught:
        take_lock()
    assert caught.value.message == f"backend-01: the fleet lock cannot be acquired: {words}"


@pytest.mark.parametrize("said", ["nonsense", "[" * 100_000], ids=["nonsense", "depth"])
def test_nonsense_where_certsync_should_answer_is_told_of_the_issuer(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(ssh, "on", lambda *_: process.Completed(0, said, ""))
    with pytest.raises(HostError, match=r"^backend-01: certsync does not answer there: "):
        issuer_side.proven(fleet(), ROOT)
    with pytest.raises(HostError, match=r"^backend-01: the rendered fleet cannot be read: "):
        issuer_side.rendered(fleet(), ROOT)


def test_a_login_shell_that_prints_without_an_end_is_ended(
    login_shell: FakeSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_lock, "ANSWER_SECONDS", 2.0)
    login_shell("while :; do echo more; done")
    with pytest.raises(HostError, match="backend-01: "):
        take_lock()


@pytest.mark.parametrize("script", ["sleep 60", "while :; do echo x; sleep 0.2; done"])
def test_one_limit_holds_for_all_that_comes_before_the_fleet_locks_answer(
    login_shell: FakeSsh, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(fleet_lock, "ANSWER_SECONDS", 1.0)
    login_shell(script.replace("sleep 60", "exec sleep 60"))
    begin = time.monotonic()
    with pytest.raises(HostError) as caught:
        take_lock()
    assert time.monotonic() - begin < 4
    why = "backend-01: its login shell did not start our command within 1 s"
    assert caught.value.message == why


def test_an_issuer_of_a_newer_certsync_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = json.dumps({"protocol": PROTOCOL + 1})
    monkeypatch.setattr(ssh, "on", lambda *_: process.Completed(0, said, ""))
    with pytest.raises(HostError) as caught:
        issuer_side.proven(fleet(), ROOT)
    assert caught.value.message == (
        f"backend-01: certsync there is newer than here: it speaks protocol {PROTOCOL + 1}, "
        f"this one {PROTOCOL}"
    )
    assert caught.value.hint == "upgrade certsync on this machine"

"""The edges: what OpenSSH says, in words; the fleet lock; the balancer's statistics; wheels."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from certsync.model import frame
from certsync.model.errors import HostError, KeyRefusedError, SilentError, UnreachableError
from certsync.model.report import pool_words
from certsync.operator.hosts import wheels
from certsync.programs import lock
from certsync.system import process, ssh, ssh_errors
from certsync.system.process import Completed
from tests.unit.fake_fleet import machine


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        ("ssh: connect to host x port 22: Connection timed out", "it does not answer"),
        ("ssh: connect to host x port 22: Connection refused", "nothing listens for SSH"),
        ("ssh: connect to host x port 22: No route to host", "there is no route to it"),
        ("ssh: Could not resolve hostname x: Name", "its name cannot be resolved"),
        ("Host key verification failed.", "its SSH host key is not known here"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "its SSH host key has changed",
        ),
        ("Connection closed by 203.0.113.12 port 22", "it closed the connection"),
        (
            (
                "Received disconnect from x port 22:2: Too many authentication failures\n"
                "Disconnected from x port 22"
            ),
            "it refused the connection after too many SSH keys",
        ),
        (
            (
                'sign_and_send_pubkey: signing failed for ED25519-SK "k" from agent: agent refused '
                "operation\nroot@x: Permission denied (publickey)."
            ),
            "this machine's SSH agent or security key did not sign",
        ),
        ("something new\nentirely", "entirely"),
        ("", "ssh failed without an error message"),
    ],
)
def test_what_openssh_says_is_told_with_the_host_and_its_meaning(stderr: str, message: str) -> None:
    error = ssh_errors.reason("backend-02", stderr)
    assert isinstance(error, UnreachableError)
    assert error.message == f"backend-02: {message}"


def test_every_way_in_that_fails_has_a_hint_of_its_own() -> None:
    words = (
        "Too many authentication failures", "sign_and_send_pubkey: signing failed for K",
        "x: Permission denied (publickey).", "Connection refused", "Connection closed by x port 22",
    )  # fmt: skip
    hints = [ssh_errors.reason("x", each).hint for each in words]
    assert len({*hints}) == len(words)
    assert "IdentitiesOnly" in hints[0]
    assert "ssh-add" in hints[2]


@pytest.mark.parametrize(
    ("words", "message", "silent"),
    [
        (
            "admin@jump: Permission denied (publickey).",
            "its jump host (jump) cannot be passed: admin@jump: Permission denied (publickey)",
            False,
        ),
        (
            "ssh: connect to host jump port 22: Connection refused",
            (
                "its jump host (jump) cannot be passed: ssh: connect to host jump port 22: "
                "Connection refused"
            ),
            False,
        ),
        (
            "channel 0: open failed: administratively prohibited: open failed",
            (
                "its jump host (jump) cannot be passed: channel 0: open failed: administratively "
                "prohibited: open failed"
            ),
            False,
        ),
        (
            "channel 0: open failed: connect failed: No route to host",
            "there is no route to it",
            True,
        ),
    ],
)
def test_a_jump_host_that_is_not_passed_says_nothing_of_the_host_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, message: str, silent: bool
) -> None:
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -G ]; then printf "user root\\nproxyjump jump\\n"; exit; fi\n'
        f'case "$*" in *LogLevel=INFO*) printf "noise\\n{words}\\nstdio forwarding failed\\n" >&2\n'
        "esac\n"
        "echo 'kex_exchange_identification: Connection closed by remote host' >&2\n"
        "echo 'Connection closed by UNKNOWN port 65535' >&2\n"
        "exit 255\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnreachableError) as caught:
        ssh.on(machine("x", 1), "", "true")
    assert caught.value.message == f"x: {message}"
    assert isinstance(caught.value, SilentError) is silent


def test_one_that_closes_connections_early_and_has_no_jump_host_is_told_as_that() -> None:
    assert ssh_errors.jump("user root\nproxycommand none\n") == ""
    assert ssh_errors.jump("proxycommand nc %h %p\n") == "nc %h %p"
    early = "kex_exchange_identification: Connection closed by remote host"
    assert ssh_errors.reason("x", early).message == "x: it closed the connection"


def test_a_refused_key_is_told_apart_from_a_host_that_is_out_of_reach() -> None:
    error = ssh_errors.reason("backend-02", "certsync@x: Permission denied (publickey).\n")
    assert isinstance(error, KeyRefusedError)
    assert error.message == "backend-02: it does not accept the SSH key"
    assert error.hint.startswith("are the user and the key right? ")
    reached = ssh_errors.reason("backend-02", "bash: line 1: /x: Permission denied")
    assert not isinstance(reached, KeyRefusedError)


def test_a_host_that_is_silent_is_told_apart_from_one_that_does_not_let_us_in() -> None:
    silent = ssh_errors.reason("x", "ssh: connect to host x port 22: No route to host")
    assert isinstance(silent, SilentError)
    for words in ("Host key verification failed.", "x: Permission denied (publickey).", "?"):
        assert not isinstance(ssh_errors.reason("x", words), SilentError)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(HostError) as caught:
        process.run(["certsync-no-such-program"])
    assert caught.value.message == "certsync-no-such-program is not installed on this machine"


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(HostError) as caught:
        process.run(["sleep", "30"], seconds=0.1)
    assert caught.value.message == "sleep took longer than 0.1 s"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_program_that_prints_without_an_end_is_ended(stream: str) -> None:
    with pytest.raises(HostError) as caught:
        process.run(["sh", "-c", f"exec cat /dev/zero >&{stream}"], seconds=20)
    assert caught.value.message == "sh printed more than 4194304 bytes"


def test_what_a_program_reads_and_prints_is_whole() -> None:
    text = "é\n" * 100_000
    done = process.run(["sh", "-c", "cat; echo words >&2; exit 3"], input=text)
    assert done == process.Completed(3, text, "words\n")
    assert process.run(["cat"]).stdout == ""


ECHO = ["sh", "-c", 'while read -r line; do echo "<$line>"; done; echo bye >&2; exit 4']


def test_a_conversation_is_a_line_for_a_line() -> None:
    one = process.Conversation(ECHO)
    assert [one.ask(word, 10) for word in ("a", "b c", "")] == ["<a>", "<b c>", "<>"]
    assert one.end() == process.Completed(4, "", "bye\n")
    assert one.ask("d", 10) == ""


def test_who_has_ended_answers_nothing_and_what_it_said_is_known() -> None:
    one = process.Conversation(["sh", "-c", "echo why >&2; exit 5"])
    assert one.ask("a", 10) == ""
    assert one.end() == process.Completed(5, "", "why\n")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec cat /dev/zero", "sh printed more than 262144 bytes"),
        ("exec cat /dev/zero >&2", "sh printed more than 262144 bytes"),
        ("exec sleep 60", "sh has not answered for 0.5 s"),
        ("while echo -n x; do sleep 0.05; done", "sh has not answered for 0.5 s"),
    ],
    ids=["an endless line", "endless errors", "silence", "a line that drips"],
)
def test_who_does_not_answer_in_one_short_line_is_ended(script: str, why: str) -> None:
    one = process.Conversation(["sh", "-c", script])
    begin = time.monotonic()
    with pytest.raises(HostError) as caught:
        one.ask("a", 0.5)
    assert caught.value.message == why
    assert one.end().status == -signal.SIGTERM
    assert time.monotonic() - begin < 5


def test_who_does_not_end_with_the_conversation_is_ended() -> None:
    one = process.Conversation(["sh", "-c", "read line; echo yes; exec sleep 60"])
    assert one.ask("a", 10) == "yes"
    assert one.end(0.2).status == -signal.SIGTERM
    one = process.Conversation(["sh", "-c", "trap '' TERM; read line; echo yes; exec sleep 60"])
    assert one.ask("a", 10) == "yes"
    assert one.end(0.2).status == -signal.SIGKILL


def test_a_conversation_can_be_ended_while_another_thread_waits_for_an_answer() -> None:
    one = process.Conversation(["sleep", "60"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.ask, "a", 60)
        time.sleep(0.2)
        assert one.end().status == -signal.SIGTERM
        assert waiting.result(timeout=10) == ""


def test_a_program_to_talk_to_that_is_not_there_is_named() -> None:
    with pytest.raises(HostError, match="certsync-no-such-program is not installed"):
        process.Conversation(["certsync-no-such-program"])


def test_root_needs_no_sudo_and_others_do() -> None:
    assert ssh.as_root(machine("a", 1), "id") == "exec sh -c id"
    admin = machine("a", 1, ssh_user="admin")
    assert ssh.as_root(admin, "id; who") == "exec env LC_ALL=C sudo -n sh -c 'id; who'"


def test_the_operators_ssh_asks_nothing_and_trusts_nobody_new() -> None:
    argv = ssh.ssh_argv(machine("a", 1, ssh_key="/k", ssh_port=2222), "/known")
    assert argv[-1] == "203.0.113.1"
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "UserKnownHostsFile=/known"} <= set(argv)
    assert argv[argv.index("-p") + 1] == "2222"
    assert "ServerAliveInterval=15" in argv


@pytest.fixture
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the lock into a folder of the test's own."""
    monkeypatch.setattr(lock, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(lock, "HOLDER", str(tmp_path / "holder"))
    monkeypatch.setattr(lock, "WORK", str(tmp_path / "work"))


@pytest.mark.usefixtures("own_lock")
def test_a_second_comer_is_told_who_holds_the_lock() -> None:
    with lock.hold("the first"), pytest.raises(lock.Held) as caught, lock.hold("the second"):
        pass
    assert str(caught.value) == "the first has held the fleet lock for 0 s"


@pytest.mark.usefixtures("own_lock")
def test_what_a_holder_starts_presents_its_token() -> None:
    with lock.hold("the first") as token, lock.hold("its child", token) as same:
        assert same == token
    with lock.hold("the first"), pytest.raises(lock.Held), lock.hold("another", "guessed"):
        pass


@pytest.mark.usefixtures("own_lock")
def test_the_lock_is_free_after_its_holder() -> None:
    with lock.hold("the first"):
        pass
    with lock.hold("the second"):
        pass


@pytest.mark.usefixtures("own_lock")
def test_while_a_holders_command_is_at_work_a_second_one_of_its_own_is_refused() -> None:
    with lock.hold("the first") as token, lock.hold("its child", token):
        with pytest.raises(lock.Held) as caught, lock.hold("another child", token):
            pass
        assert str(caught.value) == (
            "its child, started by an interrupted run, has been running for 0 s"
        )
    with lock.hold("the first") as token:
        for _ in range(2):
            with lock.hold("its child", token):
                pass


ORPHAN = """
import sys, time
from certsync.programs import lock
lock.LOCK, lock.HOLDER, lock.WORK, token = sys.argv[1:]
with lock.hold("certsync issue", token):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.mark.usefixtures("own_lock")
def test_what_a_killed_operator_has_started_keeps_others_out_until_it_ends() -> None:
    paths = [lock.LOCK, lock.HOLDER, lock.WORK]
    with lock.hold("certsync deploy by operator@laptop") as token:
        orphan = subprocess.Popen(
            [sys.executable, "-c", ORPHAN, *paths, token], stdout=subprocess.PIPE, text=True
        )
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == "at work\n"
    try:
        for _ in range(2):
            with pytest.raises(lock.Held) as caught, lock.hold("certsync renew"):
                pass
            assert re.fullmatch(
                "certsync issue, started by an interrupted run, has been running for . s",
                str(caught.value),
            )
    finally:
        orphan.kill()
        orphan.communicate()
    with lock.hold("certsync renew"):
        pass


@pytest.mark.usefixtures("own_lock")
def test_a_token_of_a_run_that_is_over_lets_nobody_work_beside_the_next_one() -> None:
    with lock.hold("the first") as token:
        pass
    for late in (token, ""):
        with (
            lock.hold("the second"),
            pytest.raises(lock.Held, match=r"^the second has held the fleet lock"),
            lock.hold("the first one's child", late),
        ):
            pass


@pytest.mark.usefixtures("own_lock")
def test_a_command_whose_starter_has_lost_the_lock_does_not_go_on_without_it() -> None:
    with lock.hold("the first") as token:
        pass
    with pytest.raises(lock.Lost) as caught, lock.hold("its child", token):
        pass
    assert str(caught.value) == "the run that started this no longer holds the fleet lock"
    with lock.hold("the second"):
        pass


def test_an_operator_may_hold_the_lock_for_longer_than_last_connections_may_take() -> None:
    assert lock.DEADLINE > 2 * 3600


@pytest.mark.parametrize("script", ["exec sleep 60", "trap '' TERM; while :; do sleep 1; done"])
def test_a_child_that_does_not_end_is_killed_and_raises_nothing(script: str) -> None:
    child = process.Child(["sh", "-c", f"echo ready; {script}"])
    assert child.line(10) == "ready\n"
    assert child.end(0.2).status == -signal.SIGKILL


def test_a_child_that_says_nothing_is_waited_for_no_longer_than_it_may_take() -> None:
    child = process.Child(["sleep", "60"])
    assert child.line(0.2) == ""
    assert child.end().status == -signal.SIGKILL


def test_how_long_a_lock_is_held_is_told() -> None:
    assert lock.describe({"who": "x", "since": 100}, 190) == "x has held the fleet lock for 1 min"
    assert lock.describe({}, 0) == "another run holds the fleet lock"
    orphan = "a command, started by an interrupted run,"
    assert lock.describe_work({}, 0) == f"{orphan} is still running"
    assert lock.describe_work({"since": 0}, 130) == f"{orphan} has been running for 2 min"


def test_balancers_that_disagree_are_each_named() -> None:
    assert pool_words({"a": "yes", "b": "yes"}) == "yes"
    assert pool_words({"b": "disabled", "a": "yes"}) == "a: yes, b: disabled"


def test_our_wheel_is_the_same_each_time_and_can_be_imported(tmp_path: Path) -> None:
    first, second = tmp_path / "a.whl", tmp_path / "b.whl"
    wheels.write_wheel(first)
    wheels.write_wheel(second)
    assert first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert "certsync/programs/receiver.py" in names
    assert not [name for name in names if "deploy/" in name or "templates/" in name]
    program = (
        f"import sys; sys.path.insert(0, {str(first)!r}); "
        "from certsync.issuer import schedule; print(schedule.__file__)"
    )
    shown = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    assert str(first) in shown.stdout


def test_wheels_are_fetched_for_the_issuers_python_and_machine_with_hashes(tmp_path: Path) -> None:
    argv = wheels.pip_arguments(wheels.Target("3.13", "aarch64", "2.41"), tmp_path)
    assert "--require-hashes" in argv
    assert "cp313" in argv
    assert "manylinux_2_41_aarch64" in argv
    assert "manylinux_2_17_aarch64" in argv
    assert not [word for word in argv if "x86_64" in word]
    assert argv[-1].endswith("certsync/operator/hosts/issuer-requirements.txt")


@pytest.mark.parametrize(
    ("python", "machine", "libc"),
    [
        ("3.13", "x/../../../tmp/evil", "2.41"),
        ("3.13/..", "x86_64", "2.41"),
        ("3.13", "x86_64", "2.41\n"),
        ("3.13", "x86_64", "Welcome"),
        ("", "", ""),
    ],
)
def test_what_an_issuer_says_that_it_runs_leads_out_of_no_folder(
    python: str, machine: str, libc: str
) -> None:
    with pytest.raises(HostError, match=r"^the issuer reports '"):
        wheels.fetched(wheels.Target(python, machine, libc))


def pins(path: Path) -> set[str]:
    return set(re.findall(r"(?m)^[a-z0-9-]+==\S+", path.read_text()))


def test_an_issuer_that_sends_notifications_gets_the_same_set_and_more(tmp_path: Path) -> None:
    plain, notifying = (wheels.Target("3.13", "x86_64", "2.41", each) for each in (False, True))
    more = pins(notifying.requirements) - pins(plain.requirements)
    assert pins(plain.requirements) < pins(notifying.requirements)
    assert [pin for pin in more if pin.startswith("apprise==")]
    argv = wheels.pip_arguments(notifying, tmp_path)
    assert argv[-1].endswith("certsync/operator/hosts/notify-requirements.txt")


def test_switching_notifications_on_is_another_release() -> None:
    assert wheels.release(notify=True) == f"{wheels.release()}-notify"


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_has_started() -> None:
    # Another run of the tests on this machine has a program of another length.
    length = str(1_000_000 + os.getpid())
    with pytest.raises(HostError):
        process.run(["sh", "-c", f"sleep {length} & wait"], seconds=0.3)
    assert f"sleep\x00{length}\x00" not in {_command(each) for each in Path("/proc").glob("[0-9]*")}


def _command(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_what_is_asked_while_a_long_connection_is_open_goes_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **_: object) -> Completed:
        asked.append(argv)
        return Completed(0, f"\n{frame.BEGIN}\n", "")

    monkeypatch.setattr(process, "run", run)
    one, other = machine("a", 1), machine("b", 2)
    with ssh.shared(one) as options:
        socket = options[-1]
        folder = Path(socket.partition("=")[2]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        # One within another's has a connection of its own.
        with ssh.shared(one) as inner:
            assert inner == []
        ssh.on(one, "", "true")
        ssh.on(other, "", "true")
    ssh.on(one, "", "true")
    assert [socket in argv for argv in asked] == [True, False, False]
    assert "ControlMaster=no" in asked[0]
    assert not folder.exists()


def test_a_child_that_is_followed_is_killed_where_it_does_not_end() -> None:
    reading, writing = os.pipe()
    stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
    child = process.follow(stubborn, cwd="/", events=writing, environment={})
    with os.fdopen(reading), os.fdopen(writing, "w"), child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        process.end(child, seconds=0.2)
        assert child.returncode == -signal.SIGKILL

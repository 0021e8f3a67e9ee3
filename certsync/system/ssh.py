"""Running commands on hosts over the operator's OpenSSH, and interpreting its errors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from certsync.model import frame
from certsync.model.errors import HostError, UnreachableError
from certsync.model.fleet import Machine
from certsync.system import process, ssh_errors
from certsync.system.process import Completed

CONNECT_SECONDS = 10
OPENING_SECONDS = 3
"""How long a command waits for a connection that is being opened. Short, because to a dead host it
then still makes an attempt of its own."""

ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""Keeps an idle connection, such as the fleet lock's, alive across NAT."""

KEX = "curve25519-sha256"
"""Takes a fifth of the CPU time of OpenSSH's default; for connections inside one network."""

SUDO = re.compile(r"\bsudo(ers)?\b|^Sorry, user|not allowed to execute", re.MULTILINE)
"""Matches errors from sudo, or about sudo missing: why our command did not start."""

EXPIRED = re.compile(
    r"password (has |is )?expired|password change required|account (or password )?(has |is )?"
    r"expired|change your password|account validation failure",
    re.IGNORECASE,
)
"""Matches what PAM, sshd and sudo print if a password or an account has expired."""

RENEW = 'chage -d "$(date +%F)" -M -1 -E -1 {}'
"""chage(1): what makes an expired password and an expired account valid again."""

UNRESOLVED = re.compile(r"^.*unable to resolve host.*\n?", re.MULTILINE)
"""A harmless warning of sudo's on a host that cannot resolve its own name."""

SHELL = (
    "look at ~/.bashrc (/root/.bashrc), /etc/bash.bashrc and /etc/ssh/sshrc there; "
    '`[ -z "$PS1" ] && return` as the first line of ~/.bashrc limits it to interactive shells'
)
"""What to try if a login shell does more than run its command."""

_shared: dict[Machine, str] = {}
"""Hosts with an open long-lived connection, and its control socket for others to share."""


_coming: dict[Machine, process.Child] = {}
"""Those of them that `opened` opens."""


@contextmanager
def shared(machine: Machine) -> Iterator[list[str]]:
    """Share one connection, the caller's own, for everything sent to a host inside the block.

    Yields the options that make it: ssh_config(5), ControlMaster. It ends with the caller's ssh
    process and with this one, so no connection outlives us. The socket's folder is private: nobody
    else on this machine can use it.
    """
    if machine in _shared:
        yield []
        return
    with TemporaryDirectory(prefix="certsync-") as folder:
        socket = f"{folder}/ssh"
        _shared[machine] = socket
        try:
            # The user's ssh_config may make it persist.
            master = ["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
            yield [*master, "-o", f"ControlPath={socket}"]
        finally:
            del _shared[machine]


@contextmanager
def opened(machines: Iterable[Machine], known_hosts: str) -> Iterator[None]:
    """Connect to hosts in advance, for commands inside the block.

    A host that cannot be reached is not reported here: the first command connects again and fails.
    """
    with ExitStack() as stack:
        for machine in machines:
            if options := stack.enter_context(shared(machine)):
                # `cat` ends with us, even if we are killed, because it reads our pipe.
                argv = [*ssh_argv(machine, known_hosts, *options), "exec cat > /dev/null"]
                _coming[machine] = process.Child(argv)
                stack.callback(_close, machine)
        yield


def _close(machine: Machine) -> None:
    _coming.pop(machine).stop()


def through(machine: Machine) -> list[str]:
    """Return the options that use a host's shared connection, if any.

    ssh opens its own connection if the socket is missing or the connection has ended. One that is
    being opened is waited for: hosts may limit new connections, and a security key is touched for
    each.
    """
    socket = _shared.get(machine)
    end = monotonic() + OPENING_SECONDS
    while socket and not Path(socket).exists() and monotonic() < end:
        opening = _coming.get(machine)
        if not (opening and opening.runs):
            break
        sleep(0.02)
    return ["-o", "ControlMaster=no", "-o", f"ControlPath={socket}"] if socket else []


def ssh_argv(machine: Machine, known_hosts: str, *options: str) -> list[str]:
    """Return the operator's SSH command for a host; the user's ssh_config applies, too."""
    argv = [
        "ssh", *options, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}",
        *ALIVE, "-o", "LogLevel=ERROR", "-p", str(machine.ssh_port), "-l", machine.ssh_user,
    ]  # fmt: skip
    if machine.ssh_key:
        argv += ["-i", machine.ssh_key, "-o", "IdentitiesOnly=yes"]
    if known_hosts:
        argv += ["-o", f"UserKnownHostsFile={known_hosts}"]
    return [*argv, "-o", "StrictHostKeyChecking=yes", machine.address]


def unreached(machine: Machine, known_hosts: str, stderr: str) -> UnreachableError:
    """Return the error for a host that ssh could not reach, from what it printed.

    If a jump host is to blame, it is asked again, in more words: as we run it, ssh hides them.
    """
    if not any(words in stderr for words in ssh_errors.BEFORE_SSH):
        return ssh_errors.reason(machine.name, stderr)
    program, *words = ssh_argv(machine, known_hosts, "-o", "LogLevel=INFO")
    jump = ""
    with suppress(HostError):
        jump = ssh_errors.jump(process.run([program, "-G", *words], seconds=CONNECT_SECONDS).stdout)
        if jump:
            again = process.run([program, *words, "exit"], seconds=2 * CONNECT_SECONDS)
            stderr = again.stderr or stderr
    return ssh_errors.reason(machine.name, stderr, jump)


def as_root(machine: Machine, command: str) -> str:
    """Return a shell command that runs with root's rights on the host."""
    shell = f"sh -c {shlex.quote(command)}"
    return instead(shell if machine.ssh_user == "root" else f"sudo -n {shell}")


def instead(command: str) -> str:
    """Return a command that replaces the login shell, so that its EXIT traps do not run.

    sudo runs in the C locale, because its errors are recognized by their English text.
    """
    return f"exec {'env LC_ALL=C ' if command.startswith('sudo ') else ''}{command}"


def on(
    machine: Machine, known_hosts: str, command: str, *, input: str = "", seconds: float = 60
) -> Completed:
    """Run a shell command as root on a host of the fleet, over the operator's SSH.

    What the login shell printed before it is in `Completed.noise`.

    Raises:
        HostError: the host cannot be reached, or we cannot become root there.
    """
    argv = [
        *ssh_argv(machine, known_hosts, *through(machine)),
        as_root(machine, frame.framed(command)),
    ]
    try:
        done = process.run(argv, input=input, seconds=seconds)
    except HostError as error:
        raise HostError(error.why, error.hint, host=machine.name) from None
    answer = frame.answer(done.stdout)
    if answer is None:
        if done.status == 255:
            raise unreached(machine, known_hosts, frame.unmarked(done.stderr))
        raise not_begun(machine, done)
    errors = frame.answer(done.stderr)
    own = Completed(
        done.status if answer.status is None else answer.status,
        answer.text,
        errors.text if errors else frame.unmarked(done.stderr),
        answer.noise,
    )
    if done.status == 255 and answer.status is None:
        raise connection_lost(machine.name, own.stderr)
    return own


def connection_lost(name: str, stderr: str) -> UnreachableError:
    """Return the error for a host whose connection ended before our command did."""
    words = Completed(255, "", stderr).error_summary
    return UnreachableError(
        f"the connection ended while a command ran{f': {words}' if words else ''}",
        "run the same command again",
        host=name,
    )


def not_begun(machine: Machine, done: Completed) -> HostError:
    """Return the error for a host where our command did not start, from what it printed."""
    stderr = frame.unmarked(done.stderr)
    errors = UNRESOLVED.sub("", stderr)
    output = Completed(done.status, frame.unmarked(done.stdout), errors or stderr)
    if EXPIRED.search(f"{errors}\n{output.stdout}"):
        return HostError(
            f"the password or the account of {machine.ssh_user} has expired there, so no command "
            f"runs: {output.error_summary}",
            f"as root, on its console: {RENEW.format(machine.ssh_user)}",
            host=machine.name,
        )
    if machine.ssh_user != "root" and SUDO.search(errors):
        return HostError(
            f"{machine.ssh_user} cannot become root: {output.error_summary}",
            f"allow it: '{machine.ssh_user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d/operator",
            host=machine.name,
        )
    why = output.error_summary or f"exit status {done.status} without output"
    return HostError(f"its login shell does not run commands: {why}", SHELL, host=machine.name)


def too_late(name: str, seconds: float) -> HostError:
    """Return the error for a host whose login shell takes too long to start a command."""
    return HostError(
        f"its login shell did not start our command within {seconds:g} s", SHELL, host=name
    )

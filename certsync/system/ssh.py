"""The edge to other hosts: OpenSSH, as the operator reaches them, and what its words mean."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory

from certsync.model import frame
from certsync.model.errors import HostError, KeyRefusedError, SilentError, UnreachableError
from certsync.model.fleet import Machine
from certsync.system import process
from certsync.system.process import Completed, printable

CONNECT_SECONDS = 10
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""A connection on which nothing is said, the fleet lock's, stays known to NAT on its way."""

KEX = "curve25519-sha256"
"""A fifth of the processor time of OpenSSH's default, for connections inside one network."""

SILENCE = (
    ("Connection timed out", "it does not answer", "is it switched on, and SSH let through?"),
    ("Operation timed out", "it does not answer", "is it switched on, and SSH let through?"),
    ("No route to host", "there is no route to it", "is it switched on, and the address right?"),
    ("Network is unreachable", "its network is out of reach", "is the address right?"),
    ("Connection refused", "nothing listens for SSH", "is sshd running, and the port right?"),
    ("Could not resolve", "its name cannot be looked up", "is `address` right?"),
)
"""What OpenSSH prints where nothing answers, what it means, and what to try."""

REASONS = (
    (
        "HOST IDENTIFICATION HAS CHANGED",
        "its SSH host key is not the pinned one",
        "if the machine was really reinstalled: ssh-keygen -R ADDRESS, connect once by hand",
    ),
    (
        "Host key verification failed",
        "its SSH host key is not known here",
        "connect once by hand (ssh USER@ADDRESS), compare the fingerprint, say yes",
    ),
    ("Connection closed by", "it closed the connection", "is there a `limit` rule on SSH?"),
    ("Connection reset", "it closed the connection", "is there a `limit` rule on SSH?"),
)
"""The same where something does."""

SUDO = re.compile(r"\bsudo(ers)?\b|^Sorry, user|not allowed to execute", re.MULTILINE)
"""In the words of sudo, or of what finds none. They tell why no command of ours began."""

UNRESOLVED = re.compile(r"^.*unable to resolve host.*\n?", re.MULTILINE)
"""What sudo prints on a host that does not know its own name, and goes on."""

SHELL = (
    "look at ~/.bashrc (/root/.bashrc), /etc/bash.bashrc and /etc/ssh/sshrc there; "
    '`[ -z "$PS1" ] && return` as the first line of ~/.bashrc leaves the rest of it to people'
)
"""What to try where a login shell does more than run what it is given."""

KEY_REFUSED = "Permission denied ("
"""What OpenSSH prints before the ways to log in that are left: our key was none."""


def ssh_reason(name: str, stderr: str) -> UnreachableError:
    """Return the error for a host that OpenSSH could not get a command to, from its words."""
    for words, meaning, hint in SILENCE:
        if words in stderr:
            return SilentError(meaning, hint, host=name)
    for words, meaning, hint in REASONS:
        if words in stderr:
            return UnreachableError(meaning, hint, host=name)
    if KEY_REFUSED in stderr:
        return KeyRefusedError(
            "it does not accept the SSH key", "are the user and key right?", host=name
        )
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return UnreachableError(
        printable(lines[-1] if lines else "SSH failed without a word"), host=name
    )


_shared: dict[Machine, str] = {}
"""Hosts that a long connection is open to, and the sockets by which others go through it."""


@contextmanager
def shared(machine: Machine) -> Iterator[list[str]]:
    """Have what is asked of a host inside the block go through one connection, the caller's own.

    Gives the options that make it: ssh_config(5), ControlMaster. It ends with what the caller has
    started, and with this process, so that no connection outlives us. Nobody else on this machine
    can use it: the folder is private.
    """
    if machine in _shared:
        yield []
        return
    with TemporaryDirectory(prefix="certsync-") as folder:
        socket = f"{folder}/ssh"
        _shared[machine] = socket
        try:
            # The person's own ssh_config may have it stay behind.
            master = ["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
            yield [*master, "-o", f"ControlPath={socket}"]
        finally:
            del _shared[machine]


@contextmanager
def opened(machines: Iterable[Machine], known_hosts: str) -> Iterator[None]:
    """Connect to hosts ahead, for what is asked of them inside the block.

    Nothing is said of one that cannot be reached: whoever asks it connects anew, and is told.
    """
    with ExitStack() as stack:
        for machine in machines:
            if options := stack.enter_context(shared(machine)):
                # What reads our standard input ends with us, even if we are killed.
                argv = [*ssh_argv(machine, known_hosts, *options), "exec cat > /dev/null"]
                stack.callback(process.Child(argv).stop)
        yield


def _through(machine: Machine) -> list[str]:
    """Return the options by which a host is reached: anew, where no connection is shared.

    ssh connects by itself where the socket is not there, or its connection has ended.
    """
    socket = _shared.get(machine)
    return ["-o", "ControlMaster=no", "-o", f"ControlPath={socket}"] if socket else []


def ssh_argv(machine: Machine, known_hosts: str, *options: str) -> list[str]:
    """Return the operator's SSH command for a host; the person's own ssh_config counts too."""
    argv = [
        "ssh", *options, "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}",
        *ALIVE, "-o", "LogLevel=ERROR", "-p", str(machine.ssh_port), "-l", machine.ssh_user,
    ]  # fmt: skip
    if machine.ssh_key:
        argv += ["-i", machine.ssh_key, "-o", "IdentitiesOnly=yes"]
    if known_hosts:
        argv += ["-o", f"UserKnownHostsFile={known_hosts}"]
    return [*argv, "-o", "StrictHostKeyChecking=yes", machine.address]


def as_root(machine: Machine, command: str) -> str:
    """Return a shell command that runs with root's rights on the host."""
    shell = f"sh -c {shlex.quote(command)}"
    return instead(shell if machine.ssh_user == "root" else f"sudo -n {shell}")


def instead(command: str) -> str:
    """Return a command that takes the login shell's place, so that its EXIT traps do not run.

    sudo says in English why it refuses: it is told apart by its words.
    """
    return f"exec {'env LC_ALL=C ' if command.startswith('sudo ') else ''}{command}"


def on(
    machine: Machine, known_hosts: str, command: str, *, input: str = "", seconds: float = 60
) -> Completed:
    """Run a shell command as root on a host of the fleet, over the operator's SSH.

    What its login shell printed before is `Completed.noise`.

    Raises:
        HostError: the host cannot be reached, or does not let us become root.
    """
    argv = [
        *ssh_argv(machine, known_hosts, *_through(machine)),
        as_root(machine, frame.framed(command)),
    ]
    try:
        done = process.run(argv, input=input, seconds=seconds)
    except HostError as error:
        raise HostError(error.why, error.hint, host=machine.name) from None
    answer = frame.answer(done.stdout)
    if answer is None:
        if done.status == 255:
            raise ssh_reason(machine.name, frame.unmarked(done.stderr))
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
    """Return the error for a host on which a command of ours did not begin, from what it said."""
    stderr = frame.unmarked(done.stderr)
    telling = UNRESOLVED.sub("", stderr)
    said = Completed(done.status, frame.unmarked(done.stdout), telling or stderr)
    if machine.ssh_user != "root" and SUDO.search(telling):
        return HostError(
            f"{machine.ssh_user} cannot become root: {said.error_summary}",
            f"allow it: '{machine.ssh_user} ALL=(ALL) NOPASSWD: ALL' in /etc/sudoers.d/operator",
            host=machine.name,
        )
    words = said.error_summary or f"it ended with {done.status} and said nothing"
    return HostError(f"its login shell does not run commands: {words}", SHELL, host=machine.name)


def too_late(name: str, seconds: float) -> HostError:
    """Return the error for a host whose login shell goes on for longer than we wait."""
    return HostError(
        f"its login shell has not begun to run a command within {seconds:g} s", SHELL, host=name
    )

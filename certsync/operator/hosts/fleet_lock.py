"""The fleet lock, held by the operator for a whole command through one SSH child.

It can be lost meanwhile: the connection ends, the issuer restarts, or the command takes too long.
So its holder looks before each phase, and before it writes the fleet file.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from certsync.model import frame
from certsync.model.errors import HostError, LockHeldError, LockLostError, UnreachableError
from certsync.model.fleet import Fleet, Machine
from certsync.programs import FOLDER
from certsync.system import parallel, process, ssh
from certsync.system.deadline import Deadline

PROGRAM = FOLDER / "lock.py"
ANSWER_SECONDS = 60.0
MOST_NOISE = 1000
"""Lines that a login shell may print before the answer."""


STILL_SECONDS = 10.0
"""How long the lock's host may take to say that it is still held."""


@dataclass(frozen=True)
class Lock:
    """A fleet lock that is held on a host."""

    host: str
    token: str
    """What the command's runs on that host present."""

    _child: process.Child

    def require(self) -> None:
        """Continue only while it is still held.

        Raises:
            LockLostError: it is not, or its host no longer says so.
        """
        found = _parse(self._child.ask("still held?", STILL_SECONDS))
        if found is None or found.get("token") != self.token:
            raise LockLostError(
                f"the fleet lock on {self.host} was lost while this command was running, so "
                "nothing more was changed",
                f"check the connection to {self.host}, then run the same command again",
            )


@contextmanager
def held(fleet: Fleet, verb: str) -> Iterator[Lock]:
    """Hold the fleet lock, which is on the issuer, inside the block.

    Raises:
        LockHeldError: another run holds it; the message says whose and since when.
        LockLostError: the block asked, and it is no longer held.
        HostError: the issuer cannot be reached.
    """
    with held_on(fleet.issuer, fleet.known_hosts, verb) as lock:
        yield lock


@contextmanager
def held_on_all(machines: Sequence[Machine], known_hosts: str, verb: str) -> Iterator[list[Lock]]:
    """Hold the lock inside the block on each of these machines that can be reached.

    Two commands that disagree on who the issuer is meet there.

    Raises:
        LockHeldError, HostError: see `held`.
    """
    with ExitStack() as stack:

        def take(machine: Machine) -> Lock | None:
            try:
                return stack.enter_context(held_on(machine, known_hosts, verb))
            except UnreachableError:
                return None

        found = parallel.each(take, machines)
        yield [each for each in found if each is not None]


@contextmanager
def held_on(machine: Machine, known_hosts: str, verb: str) -> Iterator[Lock]:
    """Hold the lock on one machine inside the block: see `held`."""
    who = f"certsync {verb} by {getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
    command = frame.begun(f"python3 -c {_quoted(PROGRAM.read_text())} {_quoted(who)}")
    with ssh.shared(machine) as options:
        argv = ssh.ssh_argv(machine, known_hosts, *options)
        child = process.Child([*argv, ssh.as_root(machine, command)])
        try:
            answer = _answer(machine, known_hosts, child)
            if not answer["held"]:
                why = str(answer["why"])
                raise LockHeldError(why, "wait for it to end, then run the same command again")
            yield Lock(machine.name, str(answer["token"]), child)
        finally:
            child.end()


def _answer(issuer: Machine, known_hosts: str, child: process.Child) -> dict[str, Any]:
    """Return the lock program's answer, after any output of a login shell.

    Raises:
        HostError: it does not run there, or its answer is invalid.
    """
    noise, begun, answer, late = _read(child, Deadline(ANSWER_SECONDS))
    if (found := _parse(answer)) is not None:
        return found
    ended = child.end(0 if late or len(noise) >= MOST_NOISE else 5)
    if late and not begun:
        raise ssh.too_late(issuer.name, ANSWER_SECONDS)
    if ended.status == 255 and not begun:
        raise ssh.unreached(issuer, known_hosts, ended.stderr)
    if not begun:
        raise ssh.not_begun(issuer, replace(ended, stdout="".join(noise)))
    errors = frame.answer(ended.stderr)
    output = replace(
        ended, stdout=answer, stderr=errors.text if errors else frame.unmarked(ended.stderr)
    )
    raise HostError(
        f"the fleet lock cannot be acquired: {output.error_summary or 'no answer'}",
        "the issuer needs python3, and its SSH user needs root rights",
        host=issuer.name,
    )


def _read(child: process.Child, deadline: Deadline) -> tuple[list[str], bool, str, bool]:
    """Return the noise before it, whether the program has begun, its answer, and if too late.

    The mark comes twice if a startup file has redirected one output to the other.
    """
    noise: list[str] = []
    begun, answer = False, ""
    try:
        while not answer and len(noise) < MOST_NOISE and (line := child.line(deadline.left())):
            if line == f"{frame.BEGIN}\n":
                begun = True
            elif not begun:
                noise.append(line)
            elif line.strip():
                answer = line
        deadline.left()
    except TimeoutError:
        return noise, begun, answer, True
    return noise, begun, answer, False


def _parse(answer: str) -> dict[str, Any] | None:
    """Return the program's answer about the lock; None: it is invalid."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    held, token = found.get("held"), found.get("token")
    if held is True and isinstance(token, str) and token:
        return {"held": True, "token": token}
    return {"held": False, "why": found["why"]} if held is False and "why" in found else None


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

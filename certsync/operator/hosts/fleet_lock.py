"""The fleet lock, held by the operator for a whole command through one SSH child."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from certsync.model import frame
from certsync.model.errors import HostError, LockHeldError
from certsync.model.fleet import Fleet, Machine
from certsync.programs import FOLDER
from certsync.system import process, ssh
from certsync.system.deadline import Deadline

PROGRAM = FOLDER / "lock.py"
ANSWER_SECONDS = 60.0
MOST_NOISE = 1000
"""Lines that a login shell may print before the answer."""


@contextmanager
def held(fleet: Fleet, verb: str) -> Iterator[str]:
    """Hold the fleet lock inside the block; yield the token that the command's runs present.

    Raises:
        LockHeldError: another run holds it; the message says whose and since when.
        HostError: the issuer cannot be reached.
    """
    who = f"certsync {verb} by {getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
    command = frame.begun(f"python3 -c {_quoted(PROGRAM.read_text())} {_quoted(who)}")
    with ssh.shared(fleet.issuer) as options:
        argv = ssh.ssh_argv(fleet.issuer, fleet.known_hosts, *options)
        child = process.Child([*argv, ssh.as_root(fleet.issuer, command)])
        try:
            answer = _answer(fleet.issuer, child)
            if not answer["held"]:
                why = str(answer["why"])
                raise LockHeldError(why, "wait for it to end, then run the same command again")
            yield str(answer["token"])
        finally:
            child.end()


def _answer(issuer: Machine, child: process.Child) -> dict[str, Any]:
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
        raise ssh.ssh_reason(issuer.name, ended.stderr)
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

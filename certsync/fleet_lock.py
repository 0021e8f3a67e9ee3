"""The fleet lock as an operator holds it: one SSH child on the issuer, for a whole command."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certsync import host, process
from certsync.errors import HostError, LockHeldError
from certsync.fleet import Fleet

PROGRAM = Path(__file__).with_name("lock.py")


@contextmanager
def held(fleet: Fleet, verb: str) -> Iterator[str]:
    """Hold the fleet lock inside the block, and give the token that its own commands present.

    Raises:
        LockHeldError: another run has it; who and since when is told.
        HostError: the issuer cannot be reached.
    """
    who = f"certsync {verb} by {getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
    command = host.as_root(
        fleet.issuer, f"python3 -c {_quoted(PROGRAM.read_text())} {_quoted(who)}"
    )
    child = process.Child([*host.ssh_argv(fleet.issuer, fleet.known_hosts), command])
    line = child.line()
    if not line:
        ended = child.end()
        if ended.status == 255:
            raise host.ssh_reason(fleet.issuer.name, ended.stderr)
        raise HostError(
            f"{fleet.issuer.name}: the fleet lock cannot be taken: {ended.last_words}",
            "the issuer needs python3, and its SSH user root's rights",
        )
    answer = json.loads(line)
    if not answer["held"]:
        child.end()
        raise LockHeldError(str(answer["why"]), "wait for it, then run the same command again")
    try:
        yield str(answer["token"])
    finally:
        child.end()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

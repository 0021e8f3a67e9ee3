"""The fleet lock, on the issuer: one command at a time changes the fleet.

Standard library only: the operator's machine sends this file to an issuer where nothing of ours is
installed yet (`python3 - < lock.py`). The kernel releases the file lock with its process, so a
crash leaves nothing behind; the file beside it says who holds it and since when.

A command that a remote holder starts here presents the holder's token and takes a second lock of
its own: if the remote machine dies, the fleet lock is free while that command is still running.
"""

import contextlib
import fcntl
import json
import os
import secrets
import select
import sys
import time

LOCK = "/run/certsync.lock"
HOLDER = "/run/certsync.holder.json"
WORK = "/run/certsync.work.lock"
"""Held by a command that a remote holder started here, while it runs; the file says which."""

DEADLINE = 4 * 3600
"""Seconds after which a holder that waits for its operator releases the lock: longer than any
command takes, and draining connections may take an hour."""


class Held(Exception):
    """Another run has the lock; the message says which, and since when."""


class Lost(Held):
    """The run that started this no longer holds the lock: nobody does."""


def describe(holder: dict, now: float) -> str:
    """Say who holds the lock, and for how long."""
    if not holder:
        return "another run holds the fleet lock"
    who = holder.get("who", "another run")
    return f"{who} has held the fleet lock for {length(holder, now)}"


def describe_work(worker: dict, now: float) -> str:
    """Say what is still running, although the run that started it may be gone."""
    who = worker.get("who", "a command")
    state = f"has been running for {length(worker, now)}" if worker else "is still running"
    return f"{who}, started by an interrupted run, {state}"


def length(holder: dict, now: float) -> str:
    """Say how long it has been."""
    minutes, seconds = divmod(max(0, int(now - holder.get("since", now))), 60)
    return f"{minutes} min" if minutes else f"{seconds} s"


def read_note(path: str) -> dict:
    """Return a holder's note about itself, or nothing."""
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        return dict(json.load(file))
    return {}


@contextlib.contextmanager
def working(who: str):
    """Hold the lock for running commands inside the block.

    Raises:
        Held: another command is running.
    """
    handle = os.open(WORK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(describe_work(read_note(WORK), time.time())) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"who": who, "since": time.time()}).encode(), 0)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def hold(who: str, token: str = ""):
    """Hold the lock inside the block, and yield its token; a holder's own token needs no lock.

    Raises:
        Held: another run has it, or a command that an interrupted run started is still running.
        Lost: a token is presented, but nobody has the lock.
    """
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with at_work_for(token, who):
                yield token
            return
        if token:
            # The holder's connection ended: continuing here would be without the lock.
            raise Lost("the run that started this no longer holds the fleet lock")
        own = secrets.token_hex(8)
        with open(os.open(HOLDER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"who": who, "since": time.time(), "token": own}, file)
        try:
            # Only after the token is written: older tokens are refused from here on, and a command
            # that presented one before is found running.
            with working(who):
                pass
            yield own
        finally:
            with contextlib.suppress(OSError):
                os.unlink(HOLDER)
    finally:
        os.close(handle)


@contextlib.contextmanager
def at_work_for(token: str, who: str):
    """Run inside the block on behalf of the holder with this token.

    Raises:
        Held: the token is another's, or a command is already running.
    """
    require_holder(token)
    with working(who):
        # Again: a new holder checks whether we are running only after it has written its token.
        require_holder(token)
        yield


def require_holder(token: str) -> None:
    """Refuse any token but the holder's."""
    holder = read_note(HOLDER)
    if not token or not secrets.compare_digest(token, holder.get("token", "")):
        raise Held(describe(holder, time.time()))


def main(who: str) -> int:
    """Hold the lock until standard input ends; report it in one line of JSON.

    Whatever comes in is a question whether it is still held, and gets the same line again.
    """
    try:
        with hold(who) as token:
            line = json.dumps({"held": True, "token": token})
            print(line, flush=True)
            end = time.monotonic() + DEADLINE
            while (left := end - time.monotonic()) > 0:
                readable, _, _ = select.select([0], [], [], left)
                if readable and not os.read(0, 4096):
                    break
                if readable:
                    print(line, flush=True)
            return 0
    except Held as held:
        print(json.dumps({"held": False, "why": str(held)}), flush=True)
        return 75


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

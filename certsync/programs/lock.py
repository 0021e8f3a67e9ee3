"""The fleet lock, on the issuer: one command at a time changes the fleet.

Only the standard library, because the operator's machine sends this file to an issuer where
nothing of ours is installed yet (`python3 - < lock.py`). The kernel's file lock is freed with its
process, so a crash leaves nothing behind; the file beside it says who holds it and since when.

What a holder on another machine starts here presents its token, and is at work under a second lock
of its own: if that machine dies, the fleet lock is free while the command it has started goes on.
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
"""Held by what a holder has started here, for as long as it runs; it says in it who it is."""

DEADLINE = 4 * 3600
"""Seconds after which a holder that only waits for its operator lets go: more than any of its
commands takes, and last connections may take an hour to end."""


class Held(Exception):
    """Somebody else is at it; who, and since when, is the message."""


class Lost(Held):
    """Whoever started this no longer holds the lock: nobody does."""


def describe(holder: dict, now: float) -> str:
    """Return in words who holds the lock and since when."""
    if not holder:
        return "another run holds the fleet lock"
    return f"{holder.get('who', 'another run')} holds the fleet lock, for {length(holder, now)}"


def describe_work(worker: dict, now: float) -> str:
    """Return in words what is still at work, though who has started it may be gone."""
    who = worker.get("who", "a command")
    told = f"{who}, which an interrupted run has started, is still at work"
    return f"{told}, for {length(worker, now)}" if worker else told


def length(holder: dict, now: float) -> str:
    """Return in words how long it has been."""
    minutes, seconds = divmod(max(0, int(now - holder.get("since", now))), 60)
    return f"{minutes} min" if minutes else f"{seconds} s"


def read_note(path: str) -> dict:
    """Return what a holder wrote of itself, or nothing."""
    with contextlib.suppress(OSError, ValueError), open(path) as file:
        return dict(json.load(file))
    return {}


@contextlib.contextmanager
def working(who: str):
    """Hold the lock of what is at work here inside the block.

    Raises:
        Held: something else is.
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
    """Hold the lock inside the block, and give its token; a holder's own token needs no lock.

    Raises:
        Held: another run has it, or what an interrupted one has started is still at work.
        Lost: nobody has it, and a token is presented.
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
            # The holder's connection ended: what it goes on to do here, it does unlocked.
            raise Lost("the run that started this no longer holds the fleet lock")
        own = secrets.token_hex(8)
        with open(os.open(HOLDER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"who": who, "since": time.time(), "token": own}, file)
        try:
            # After the token is written: who presents an older one from here on is refused by it,
            # and who has presented it before is found at work.
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
    """Be at work inside the block for the holder whose token this is.

    Raises:
        Held: it is another's, or something is at work already.
    """
    heed_holder(token)
    with working(who):
        # Once more: a new holder looks whether we are at work only after it has written its token.
        heed_holder(token)
        yield


def heed_holder(token: str) -> None:
    """Go on only with the holder's own token."""
    holder = read_note(HOLDER)
    if not token or not secrets.compare_digest(token, holder.get("token", "")):
        raise Held(describe(holder, time.time()))


def main(who: str) -> int:
    """Hold the lock until standard input ends, saying so in one line of JSON."""
    try:
        with hold(who) as token:
            print(json.dumps({"held": True, "token": token}), flush=True)
            end = time.monotonic() + DEADLINE
            while (left := end - time.monotonic()) > 0:
                readable, _, _ = select.select([0], [], [], left)
                if readable and not os.read(0, 4096):
                    break
            return 0
    except Held as held:
        print(json.dumps({"held": False, "why": str(held)}), flush=True)
        return 75


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

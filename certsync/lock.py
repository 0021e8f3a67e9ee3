"""The fleet lock, on the issuer: one command at a time changes the fleet.

Only the standard library, because the operator's machine sends this file to an issuer where
nothing of ours is installed yet (`python3 - < lock.py`). The kernel's file lock is freed with its
process, so a crash leaves nothing behind; the file beside it says who holds it and since when.
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
DEADLINE = 3600
"""Seconds after which a holder that only waits for its operator lets go."""


class Held(Exception):
    """Somebody else has it. ``holder`` is what they said of themselves."""

    def __init__(self, holder: dict) -> None:
        super().__init__(describe(holder, time.time()))
        self.holder = holder


def describe(holder: dict, now: float) -> str:
    """Return in words who holds the lock and since when."""
    if not holder:
        return "another run holds the fleet lock"
    minutes, seconds = divmod(max(0, int(now - holder.get("since", now))), 60)
    since = f"{minutes} min" if minutes else f"{seconds} s"
    return f"{holder.get('who', 'another run')} holds the fleet lock, for {since}"


def read_holder() -> dict:
    """Return what the holder wrote, or nothing."""
    with contextlib.suppress(OSError, ValueError), open(HOLDER) as file:
        return dict(json.load(file))
    return {}


@contextlib.contextmanager
def hold(who: str, token: str = ""):
    """Hold the lock inside the block, and give its token; a holder's own token needs no lock.

    Raises:
        Held: another run has it.
    """
    handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder()
            if token and secrets.compare_digest(token, holder.get("token", "")):
                yield token
                return
            raise Held(holder) from None
        own = secrets.token_hex(8)
        with open(os.open(HOLDER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"who": who, "since": time.time(), "token": own}, file)
        try:
            yield own
        finally:
            with contextlib.suppress(OSError):
                os.unlink(HOLDER)
    finally:
        os.close(handle)


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

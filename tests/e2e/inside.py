"""Sockets of this process in a network namespace of the lab."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""


def inside(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    """Return a socket that was made in a namespace, where it stays.

    A thread's namespace is its own, so one goes there for this alone, and ends.
    """

    def go() -> socket.socket:
        # os.setns is there from Python 3.12 on.
        library = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", namespace).open("rb") as place:
            if library.setns(place.fileno(), CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"setns {namespace}: {os.strerror(number)}")
        return make()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(go).result()

"""What a process may take when somebody else says what it does: setrlimit(2)."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

GRACE = 2
"""Seconds from the error to the end: one long step in C is not interrupted by an error."""


def limit(seconds: int, memory: int) -> None:
    """Limit this process: what is more than ``memory`` bytes from here on raises MemoryError.

    So does TimeoutError past ``seconds`` of processor time; soon after, the process is killed.
    """
    signal.signal(signal.SIGXCPU, _out_of_time)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    wanted = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (seconds, seconds + GRACE),
        resource.RLIMIT_AS: (used + memory, used + memory),
    }
    for kind, (soft, hard) in wanted.items():
        most = resource.getrlimit(kind)[1]
        most = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(kind, (min(soft, most), most))


def _out_of_time(*_signal: Any) -> None:
    raise TimeoutError

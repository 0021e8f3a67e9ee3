"""Resource limits for a process that runs somebody else's templates: setrlimit(2)."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

GRACE = 2
"""Seconds between the exception and the kill: an exception cannot interrupt a long call in C."""


def limit(seconds: int, memory: int) -> None:
    """Limit this process: more than ``memory`` further bytes raise MemoryError.

    More than ``seconds`` of processor time raise TimeoutError; soon after, the process is killed.
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

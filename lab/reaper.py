"""Wait until the process that holds our standard input has ended, then take its lab down."""

from __future__ import annotations

import signal
import sys

from lab.world import Lab


def main(name: str) -> None:
    """Take the lab ``name`` down at the end of standard input."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    lab = Lab(name)
    if lab.belongs_here():
        lab.down()


if __name__ == "__main__":
    main(sys.argv[1])

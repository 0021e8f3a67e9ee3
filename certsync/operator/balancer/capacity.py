"""How many connections a balancer takes at the same time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from certsync.model.fleet import Fleet

KIB_A_CONNECTION = 64
"""Two buffers of 16 KiB in HAProxy, while it passes something on, and as much in the kernel."""

FEWEST, FEWEST_FILES_ALLOW = 1000, 100
"""What is tried with the smallest memory, and with the fewest open files."""

FILES_A_CONNECTION, OTHER_FILES = 2, 1000


def max_connections(fleet: Fleet, told: Sequence[str]) -> int:
    """Return what the fleet file says, or what half of the memory and all open files are good for.

    ``told`` is the memory in KiB and two limits of open files, of which the lower one holds: a
    container may allow less than systemd asks for, and HAProxy does not start with more than it
    gets. The answer is in thousands, so that another kernel's few
    pages more or less change nothing; in hundreds where the files allow less. 0: nothing is known.
    """
    chosen = fleet.balancing.max_connections
    if chosen or len(told) < 3 or not told[0].isdigit():
        return chosen
    limits = [max(int(told[0]) // 2 // KIB_A_CONNECTION, FEWEST)]
    limits += [
        (int(files) - OTHER_FILES) // FILES_A_CONNECTION for files in told[1:] if files.isdigit()
    ]
    most = max(min(limits), FEWEST_FILES_ALLOW)
    return most // 1000 * 1000 or most // 100 * 100

"""How many concurrent connections a balancer accepts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from certsync.model.fleet import Fleet

KIB_A_CONNECTION = 64
"""Two buffers of 16 KiB in HAProxy while data is in transit, and as much in the kernel."""

FEWEST, FEWEST_FILES_ALLOW = 1000, 100
"""Lower bounds for little memory, and for few open files."""

FILES_A_CONNECTION, OTHER_FILES = 2, 1000


def max_connections(fleet: Fleet, resources: Sequence[str]) -> int:
    """Return the fleet file's limit, or what half of the memory and all open files allow.

    ``resources`` is the memory in KiB and two limits of open files. The lower limit counts: a
    container may allow less than systemd asks for, and HAProxy does not start if it gets too few.
    The answer is rounded to thousands, so that a few pages of memory more or less do not change
    it; to hundreds if the files allow less than a thousand. 0: unknown.
    """
    chosen = fleet.balancing.max_connections
    if chosen or len(resources) < 3 or not resources[0].isdigit():
        return chosen
    limits = [max(int(resources[0]) // 2 // KIB_A_CONNECTION, FEWEST)]
    limits += [
        (int(files) - OTHER_FILES) // FILES_A_CONNECTION
        for files in resources[1:]
        if files.isdigit()
    ]
    most = max(min(limits), FEWEST_FILES_ALLOW)
    return most // 1000 * 1000 or most // 100 * 100

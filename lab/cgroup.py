"""A control group for each host: in a shared one, units fail with "Failed at step CGROUP".

It is also the reliable way to end a host: all its processes are in its group, however they forked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.errors import LabError

PARENT = "certsync-lab"


def hierarchies() -> list[Path]:
    """Return where the control group hierarchies (version 1 and 2) are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            found.append(Path(before.split()[4]))
    if not found:
        raise LabError("no control groups are mounted here", "mount cgroup2 at /sys/fs/cgroup")
    return found


def make(name: str) -> list[Path]:
    """Make the group ``name`` in every hierarchy and return their `cgroup.procs` files."""
    entries = []
    for top in hierarchies():
        group = top / PARENT / name
        _make_folder(group)
        for folder in (top / PARENT, group):
            # Version 1's cpuset takes no process before these two are set.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                own, above = folder / setting, folder.parent / setting
                if own.exists() and above.exists() and not own.read_text().strip():
                    own.write_text(above.read_text())
        entries.append(group / "cgroup.procs")
    return entries


def _make_folder(group: Path) -> None:
    while not group.is_dir():
        # The last lab to go down removes the parent, possibly between these two calls.
        with contextlib.suppress(FileNotFoundError):
            group.parent.mkdir(exist_ok=True)
            group.mkdir(exist_ok=True)


def names(prefix: str) -> list[str]:
    """Return the groups of a lab that still exist."""
    return sorted(
        {
            group.name
            for top in hierarchies()
            for group in (top / PARENT).glob(f"{prefix}*")
            if group.is_dir()
        }
    )


def processes(name: str) -> set[int]:
    """Return the ids of all processes in the group and below it."""
    return {
        int(word) for folder in _folders([name]) for word in _read(folder / "cgroup.procs").split()
    }


def remove(name: str, deadline: float = 10) -> None:
    """End what runs in the group and remove it.

    Raises:
        LabError: something in it outlives ``deadline`` seconds of SIGKILL.
    """
    end = time.monotonic() + deadline
    while left := processes(name):
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > end:
            raise LabError(f"processes of {name} do not end: {sorted(left)}")
        time.sleep(0.05)
    for folder in sorted(_folders([name]), key=lambda path: len(path.parts), reverse=True):
        _remove_folder(folder, end)
    for top in hierarchies():
        # It may contain another lab's groups.
        with contextlib.suppress(OSError):
            (top / PARENT).rmdir()


def _remove_folder(folder: Path, end: float) -> None:
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # The kernel releases a dead process's group a moment later.
            if time.monotonic() > end:
                raise LabError(f"control group {folder} cannot be removed") from None
            time.sleep(0.05)


def _folders(groups: Iterable[str]) -> Iterator[Path]:
    for group in groups:
        for top in hierarchies():
            root = top / PARENT / group
            if root.is_dir():
                yield root
                yield from (Path(path) for path, _, _ in os.walk(root) if Path(path) != root)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

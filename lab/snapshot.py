"""Snapshots of prepared hosts' disks, to start other labs from.

A snapshot has one layer per host: what its disk adds to the image. The next lab mounts it between
the image and the host's own layer, so that nothing is copied and the snapshot never changes. Its
name is the hash of everything it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.image import CACHE, forget, image, in_use
from lab.shell import run, say

SNAPSHOTS = CACHE / "snapshots"
KEPT = 6
"""How many are kept, the most recently used: each is about 200 MB."""

CONTENTS = ("var/lib/dpkg/status", "srv/apt/Packages")
"""The image's package lists: the same recipe gives other packages on another day."""

EACH_LABS_OWN = ("etc/hosts", "etc/resolv.conf", "home/admin/.ssh/authorized_keys")
"""Files that a lab writes into every disk before it boots."""

HOSTS_OF_ITS_OWN = ("var/log/journal", "var/lib/systemd/random-seed", "etc/machine-id")
"""Files that a host recreates when it boots without them. Its SSH host keys are kept, because other
hosts may have pinned them."""

OPAQUE = "trusted.overlay.opaque"


def key(root: Path, paths: Sequence[str], words: Sequence[str]) -> str:
    """Return 16 hex digits that change with any file below these paths, and with any of the words.

    ``paths`` are files and folders, relative to ``root``.
    """
    total = hashlib.sha256()
    for word in words:
        _add(total, word.encode())
    for path in paths:
        _add(total, path.encode())
        for file in _files(root / path):
            _add(total, str(file.relative_to(root)).encode())
            _add(total, file.read_bytes())
    return total.hexdigest()[:16]


def _add(total: hashlib._Hash, part: bytes) -> None:
    total.update(len(part).to_bytes(8, "big") + part)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (each for each in path.rglob("*") if each.is_file())
    return sorted(each for each in found if "__pycache__" not in each.parts)


def contents(suite: str) -> str:
    """Return the hash of a suite's image contents; build the image if it does not exist yet."""
    root = image(suite)
    return key(root, CONTENTS, [str(root)])


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of a snapshot, with one folder per host.

    If it does not exist yet, ``make`` fills an empty folder; other processes wait meanwhile.
    """
    folder = SNAPSHOTS / name
    with _one_at_a_time():
        if not folder.is_dir():
            say(f"preparing hosts, once ({folder})")
            unfinished = SNAPSHOTS / f"{name}.part"
            forget(unfinished)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
        os.utime(folder)
        for each in outdated(_found(), KEPT):
            if not in_use(each):
                forget(each)
    return folder


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    SNAPSHOTS.mkdir(parents=True, exist_ok=True)
    with (SNAPSHOTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _found() -> dict[Path, float]:
    folders = (each for each in SNAPSHOTS.iterdir() if each.is_dir())
    return {each: each.stat().st_mtime for each in folders}


def outdated(found: dict[Path, float], count: int) -> list[Path]:
    """Return the folders to delete: unfinished ones, and all but the most recently used.

    ``found`` has each folder's time of use.
    """
    unfinished = [each for each in found if each.suffix]
    whole = sorted((each for each in found if not each.suffix), key=lambda each: -found[each])
    return unfinished + whole[count:]


def keep_layer(upper: Path, target: Path) -> None:
    """Copy a host's own layer, without files specific to it or its lab. The host is off."""
    run(["cp", "-a", upper, target], timeout=300)
    for name in (*EACH_LABS_OWN, *HOSTS_OF_ITS_OWN):
        path = target / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _make_independent(target)


def _make_independent(top: Path) -> None:
    # overlayfs's notes about the original's layers are wrong for a copy.
    for folder, folders, files in os.walk(top):
        for path in (Path(folder), *(Path(folder, name) for name in (*folders, *files))):
            for name in os.listxattr(path, follow_symlinks=False):
                if name.startswith("trusted.overlay.") and name != OPAQUE:
                    os.removexattr(path, name, follow_symlinks=False)

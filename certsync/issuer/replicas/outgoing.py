"""The outbox for pushes, which only root and the pushing user can read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certsync.model.paths import PUSH_RUNTIME, PUSHING_USER


def open_runtime() -> None:
    """Create the folder, in memory, for the pushing user's connection sockets."""
    PUSH_RUNTIME.mkdir(mode=0o755, exist_ok=True)
    PUSH_RUNTIME.chmod(0o755)
    sockets = PUSH_RUNTIME / "ssh"
    sockets.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(sockets, PUSHING_USER, PUSHING_USER)
    for left in sockets.iterdir():
        # Named after the process that made it; a killed one leaves it behind.
        if not Path("/proc", left.name.partition("-")[0]).exists():
            left.unlink(missing_ok=True)


@contextmanager
def outbox(files: dict[str, bytes], name: str) -> Iterator[Path]:
    """Put files into the outbox, in a folder called ``name``, inside the block.

    It is in memory, owned by root, and readable by the pushing user.
    """
    remove_outbox()
    open_runtime()
    group = PUSHING_USER
    folder = PUSH_RUNTIME / "outbox" / name
    folder.parent.mkdir(mode=0o710)
    shutil.chown(folder.parent, "root", group)
    folder.parent.chmod(0o710)
    folder.mkdir(mode=0o700)
    try:
        for file, content in files.items():
            handle = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write(content)
            shutil.chown(folder / file, "root", group)
            (folder / file).chmod(0o640)
        shutil.chown(folder, "root", group)
        folder.chmod(0o750)
        yield folder
    finally:
        remove_outbox()


def remove_outbox() -> None:
    """Remove the copies that a run pushes from, including those of a killed run."""
    shutil.rmtree(PUSH_RUNTIME / "outbox", ignore_errors=True)

"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """Replace a file in one rename, synced to disk: readers see either the old or the new one.

    Raises:
        OSError: that failed, and nothing was changed; it names the file.
    """
    try:
        _write_whole(path, content, mode)
    except OSError as error:
        # Errors of an open file, such as a full disk's, do not say which one it was.
        error.filename = error.filename or str(path)
        raise


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            os.fchmod(sink.fileno(), mode)
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the folder's entries survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_aside(path: Path) -> Path:
    """Rename a file to NAME.broken, and return its new path."""
    return path.replace(path.with_name(f"{path.name}.broken"))


def remove_folder(folder: Path) -> None:
    """Remove a folder and its contents, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)

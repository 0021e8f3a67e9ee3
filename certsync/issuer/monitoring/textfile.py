"""Writes what node_exporter reads. It never ends a run: what went wrong is only told."""

from __future__ import annotations

from pathlib import Path

from certsync.system.files import write_whole

NAME = "certsync.prom"
MODE = 0o644
"""node_exporter runs as a user of its own."""


def write(folder: str, text: str) -> str:
    """Replace ``certsync.prom`` in node_exporter's folder, whole, and return why not if it fails.

    The folder is not made: one that nothing reads would hide that node_exporter is not there.
    """
    path = Path(folder) / NAME
    hint = "install prometheus-node-exporter, or name the folder that it reads in [metrics]"
    try:
        if not path.parent.is_dir():
            return f"{folder} is not there, so no metrics are written: {hint}"
        write_whole(path, text.encode(), mode=MODE)
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return ""

"""Write metrics for node_exporter. Failures are only reported and never fail a run."""

from __future__ import annotations

from pathlib import Path

from certsync.system.files import write_whole

NAME = "certsync.prom"
MODE = 0o644
"""node_exporter runs as a user of its own."""


def write(folder: str, text: str) -> str:
    """Replace ``certsync.prom`` in node_exporter's folder; return why if it fails.

    The folder is not created: that would hide that node_exporter is not installed.
    """
    path = Path(folder) / NAME
    hint = "install prometheus-node-exporter, or set the folder that it reads under [metrics]"
    try:
        if not path.parent.is_dir():
            return f"{folder} does not exist, so no metrics are written: {hint}"
        write_whole(path, text.encode(), mode=MODE)
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}"
    return ""

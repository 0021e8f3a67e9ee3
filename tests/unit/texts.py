"""Texts that people read, kept whole in files: one a command, in `tests/unit/texts`.

A change of wording is one change there. To write them anew, and then read the difference:
`CERTSYNC_WRITE_TEXTS=1 script/test unit`.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "texts"


def kept(name: str, text: str) -> str:
    """Return the text that is kept under a name; with CERTSYNC_WRITE_TEXTS keep this one first."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("CERTSYNC_WRITE_TEXTS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    return path.read_text()

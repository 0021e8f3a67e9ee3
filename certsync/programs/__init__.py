"""What runs on other hosts, each in a file of its own: by their own shell, with nothing of ours."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def text_of(name: str) -> str:
    """Return a program's text."""
    return (FOLDER / name).read_text()

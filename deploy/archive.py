"""Pack steps into one archive, with the script that takes them in order. Pure."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from certsync.programs import text_of
from deploy.step import Content, Step

MARK = "certsync: this is step"
STEP = re.compile(rf"{MARK} ([0-9]{{1,4}})")
"""What the script prints before each step, on a line of its own."""


def script(steps: Sequence[Step]) -> str:
    """Return the shell script that takes the steps and stops at the first failure."""
    parts = ['set -e\nstaged=$1\n. "$staged/functions"\n']
    for number, each in enumerate(steps):
        # A step's own script decides which of its commands may fail.
        parts.append(
            f"\n# {each.name}\nhere=$staged/{number}\necho {shlex.quote(f'{MARK} {number}')}\n"
            f"(\nset +e\n{each.script}\n)\n"
        )
    return "".join(parts)


def archive(steps: Sequence[Step]) -> bytes:
    """Return the archive for certsync/programs/unpack.sh."""
    files: dict[str, Content] = {"functions": text_of("functions.sh"), "steps": script(steps)}
    for number, each in enumerate(steps):
        assert isinstance(each.files, Mapping)
        files.update({f"{number}/{name}": content for name, content in each.files.items()})
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, content in files.items():
            data = content_of(content)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            made.addfile(member, io.BytesIO(data))
    return target.getvalue()


def content_of(content: Content) -> bytes:
    """Return a file's content.

    Raises:
        OSError: it is a file on this machine that cannot be read.
    """
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else content

"""Where an answer of a host begins and ends: what its login shell prints is no part of it. Pure.

bash reads ~/.bashrc when sshd starts it for a command too (bash(1), "Invocation"), so what is
printed there comes before each answer; what it leaves in the background comes behind it as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BEGIN = "certsync: what follows is the answer, 6f1d0c52"
"""A line by itself, before the answer, on both outputs."""

END = re.compile("certsync: that was the answer, 6f1d0c52, with ([0-9]{1,3})")
"""The same behind it, with the command's exit status."""

PREFIX = f"printf '\\n%s\\n' '{BEGIN}' && printf '\\n%s\\n' '{BEGIN}' >&2 &&"
"""A shell command that says that it has begun, before the one that it is put in front of."""

BEFORE = f"{{ {PREFIX} ("
AFTER = """
); status=$?
printf '\\n%s%s\\n' 'certsync: that was the answer, 6f1d0c52, with ' "$status"
printf '\\n%s%s\\n' 'certsync: that was the answer, 6f1d0c52, with ' "$status" >&2
exit "$status"; }"""
"""What a command stands between that is to say when it has begun, and when and how it has ended."""


class Answer(NamedTuple):
    """What was printed on one output."""

    noise: str
    """What was printed before."""

    text: str
    status: int | None
    """The command's exit status; None: it has not ended by itself."""


def begun(command: str) -> str:
    """Return a shell command that says first that it has begun.

    The mark is on a line by itself also after something that ended in none; and no shell that
    prints the commands it is given prints that line, because here it is an argument.
    """
    return f"{PREFIX} {command}"


def framed(command: str) -> str:
    """Return a shell command that says when it has begun, and when and how it has ended."""
    return f"{BEFORE} {command}{AFTER}"


def answer(output: str) -> Answer | None:
    """Return what a command printed, and what was printed before; None: it has not begun."""
    mark = f"\n{BEGIN}\n"
    before, found, after = output.partition(mark)
    if not found:
        return None
    # The second one is there too where a startup file has made one of both outputs.
    after = after.removeprefix(mark)
    ended = re.search(f"\n{END.pattern}\n", after)
    if not ended:
        return Answer(before.strip(), after, None)
    return Answer(before.strip(), after[: ended.start()], int(ended[1]))


def unmarked(output: str) -> str:
    """Return what was printed without our own marks, for a person to read."""
    lines = output.splitlines()
    return "\n".join(line for line in lines if line != BEGIN and not END.fullmatch(line))

"""Marks where a command's output begins and ends, apart from what the login shell prints. Pure.

bash reads ~/.bashrc even when sshd starts it for a command (bash(1), "Invocation"), so output from
there precedes each answer; what it leaves in the background may print after it, too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BEGIN = "certsync: what follows is the answer, 6f1d0c52"
"""A line of its own before the answer, on both outputs."""

END = re.compile("certsync: that was the answer, 6f1d0c52, with ([0-9]{1,3})")
"""A line of its own after it, with the command's exit status."""

ENGLISH = "LC_ALL=C && export LC_ALL &&"
"""A shell command that makes programs print what we recognize, whatever the host's language is."""

PREFIX = f"{ENGLISH} printf '\\n%s\\n' '{BEGIN}' && printf '\\n%s\\n' '{BEGIN}' >&2 &&"
"""A shell command that prints the first mark, to put in front of another one."""

BEFORE = f"{{ {PREFIX} ("
AFTER = """
); status=$?
printf '\\n%s%s\\n' 'certsync: that was the answer, 6f1d0c52, with ' "$status"
printf '\\n%s%s\\n' 'certsync: that was the answer, 6f1d0c52, with ' "$status" >&2
exit "$status"; }"""
"""What goes around a command to print both marks."""


class Answer(NamedTuple):
    """What was printed to one output."""

    noise: str
    """What was printed before the answer."""

    text: str
    status: int | None
    """The command's exit status; None: it did not exit by itself."""


def begun(command: str) -> str:
    """Return a shell command that first prints the begin mark.

    The mark gets a line of its own even after output without a newline. A shell that echoes its
    commands does not print that line, because here it is an argument.
    """
    return f"{PREFIX} {command}"


def framed(command: str) -> str:
    """Return a shell command that prints both marks around its output."""
    return f"{BEFORE} {command}{AFTER}"


def answer(output: str) -> Answer | None:
    """Return what a command printed, and what was printed before it; None: it has not begun."""
    mark = f"\n{BEGIN}\n"
    before, found, after = output.partition(mark)
    if not found:
        return None
    # The second mark is here too if a startup file merged both outputs.
    after = after.removeprefix(mark)
    ended = re.search(f"\n{END.pattern}\n", after)
    if not ended:
        return Answer(before.strip(), after, None)
    return Answer(before.strip(), after[: ended.start()], int(ended[1]))


def unmarked(output: str) -> str:
    """Return the output without our marks, for people to read."""
    lines = output.splitlines()
    return "\n".join(line for line in lines if line != BEGIN and not END.fullmatch(line))

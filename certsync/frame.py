"""Where an answer of a host begins: what its login shell prints before is no part of it. Pure.

bash reads ~/.bashrc when sshd starts it for a command too (bash(1), "Invocation"), so what is
printed there comes before each answer.
"""

from __future__ import annotations

BEGIN = "certsync: what follows is the answer, 6f1d0c52"
"""A line by itself, before the answer, on both outputs."""


PREFIX = f"printf '\\n%s\\n' '{BEGIN}' && printf '\\n%s\\n' '{BEGIN}' >&2 &&"
"""A shell command that says so, before the one that it is put in front of."""


def framed(command: str) -> str:
    """Return a shell command that says first that it has begun.

    The mark is on a line by itself also after something that ended in none; and no shell that
    prints the commands it is given prints that line, because here it is an argument.
    """
    return f"{PREFIX} {command}"


def answer(output: str) -> tuple[str, str] | None:
    """Return what was printed before a command began, and its answer; None: it has not begun."""
    before, found, after = output.partition(f"\n{BEGIN}\n")
    return (before.strip(), after) if found else None

"""What a host prints for a command: up to a limit, and apart from its login shell's output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyinfra.connectors.util import OutputLine

from certsync.model.frame import BEGIN, END
from certsync.system.process import MAX_OUTPUT

TOO_MUCH = "certsync: more than this is not read, 6f1d0c52"
"""Takes the place of what exceeds the limit."""


def lines(output: Any, kill: Callable[[], None], limit: Any = None) -> Iterator[str]:
    """Yield lines as text, even if not UTF-8; cancel the limit when the answer begins.

    ``kill`` ends a program that prints too much; `TOO_MUCH` is then the last line.
    """
    left = MAX_OUTPUT
    while left > 0 and (each := output.readline(left)):
        left -= len(each)
        line = each.decode(errors="replace")
        if limit and line == f"{BEGIN}\n":
            limit.close()
        yield line
    if left <= 0:
        kill()
        yield TOO_MUCH


def own(lines: Iterable[OutputLine]) -> tuple[list[OutputLine] | None, bool]:
    """Return a command's own output, and whether it has ended; None: it has not begun."""
    begun, ended, rest = set[str](), set[str](), list[OutputLine]()
    for line in lines:
        name = line.buffer_name
        if name in ended:
            continue
        if line.line == BEGIN:
            # The second mark is here too if a startup file merged both outputs.
            begun.add(name)
            _drop_blank(rest, name)
        elif END.fullmatch(line.line):
            ended.add(name)
            _drop_blank(rest, name)
        elif name in begun:
            rest.append(line)
    return (rest if "stdout" in begun else None), "stdout" in ended


def _drop_blank(lines: list[OutputLine], name: str) -> None:
    """Remove the blank line that precedes a mark."""
    at = next((i for i in reversed(range(len(lines))) if lines[i].buffer_name == name), None)
    if at is not None and not lines[at].line:
        del lines[at]

"""The manual page certsync(1), made from the words that `--help` prints. Pure: roff comes out.

docs/certsync.1 is what comes out, and the wheel carries it to where man(1) looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import click

LEADING = re.compile(r"^(?=[.'])", re.MULTILINE)
UNWRAPPED = "\b"
"""click's mark for a paragraph that keeps its lines."""

STATUSES = (
    (0, "done"),
    (1, "failed; what failed, and what to try, is on standard error"),
    (2, "a mistake in the command or in the fleet file"),
    (3, "checked, and something is not as it should be"),
    (75, "not now; the same command continues"),
)

FILES = (
    ("fleet.toml", "the fleet file, in any folder; `certsync init` writes one"),
    ("fleet.py", "pyinfra's door to it, beside it"),
    ("templates/", "beside it: files that take the place of certsync's templates of the same name"),
    ("/etc/certsync/", "on every backend: the generations and the live link; root's"),
    ("/var/lib/certsync/state.json", "on the issuer: what is remembered between runs"),
)


def page(group: click.Group, version: str) -> str:
    """Return the manual page of a group of commands, in roff."""
    summary, _, rest = (group.help or "").strip().partition("\n\n")
    lines = [
        '.\\" Made from the help of the commands: certsync manual > docs/certsync.1',
        f'.TH CERTSYNC 1 "" "certsync {version}" "User Commands"',
        ".SH NAME",
        f"certsync \\- {escaped(_one_line(summary).rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B certsync",
        "\\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...",
        ".SH DESCRIPTION",
        *_paragraphs(rest, first=True),
        ".SH COMMANDS",
    ]
    context = click.Context(group, info_name="certsync")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            lines += _command(name, command, context)
    lines += [".SH EXIT STATUS"]
    for status, meaning in STATUSES:
        lines += [".TP", f".B {status}", escaped(meaning)]
    lines += [".SH FILES"]
    for path, meaning in FILES:
        lines += [".TP", f".I {escaped(path)}", escaped(meaning)]
    lines += [".SH SEE ALSO", ".BR nginx (8),", ".BR haproxy (1),", ".BR rsync (1),", ".BR ssh (1)"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text that roff prints as it stands."""
    return LEADING.sub(
        r"\\&", text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    )  # fmt: skip


def _command(name: str, command: click.Command, above: click.Context) -> list[str]:
    context = click.Context(command, info_name=name, parent=above)
    arguments = [each.make_metavar(context) for each in command.params if _is_argument(each)]
    words = " ".join(f"\\fI{escaped(each)}\\fR" for each in arguments)
    shown = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    options = " [\\fIOPTION\\fR]..." * bool(shown)
    heading = f"certsync {name}"
    lines = [f'.SS "{escaped(heading)}"', f"\\fB{escaped(heading)}\\fR {words}{options}".rstrip()]
    lines += _paragraphs(command.help or "")
    for option in shown:
        lines += [".TP", f".B {escaped(_written(option, context))}", escaped(option.help or "")]
    return lines


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _written(option: click.Option, context: click.Context) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.make_metavar(context)}"


def _paragraphs(text: str, *, first: bool = False) -> Iterable[str]:
    for number, paragraph in enumerate(each for each in text.strip().split("\n\n") if each):
        if not (first and number == 0):
            yield ".PP"
        if paragraph.strip().startswith(UNWRAPPED):
            kept = paragraph.strip().removeprefix(UNWRAPPED).strip("\n")
            yield from (".nf", *(escaped(line) for line in kept.splitlines()), ".fi")
        else:
            yield escaped(_one_line(paragraph))


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""What a command would do, as a dry run tells it: steps, files, pools. Pure.

The steps of a deploy are those that pyinfra has prepared: what a real run executes. What only shows
on the way is listed as depending.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

HERE = "here"
"""Where a step is taken that is not on a host of the fleet: on the operator's machine."""

SHOWN_LINES, WIDEST = 60, 110
"""Of the diff of one file: lines, and characters of each."""

SHOWN_OF_WHOLE = 12
"""Lines of a file that comes or goes: a first deploy has many, and JSON has the whole of them."""


@dataclass(frozen=True)
class Step:
    """Something that a run changes in one place."""

    phase: str
    host: str
    what: str
    depends: str = ""
    """On what it depends whether it is taken, in words; empty: it is taken."""


@dataclass(frozen=True)
class FileChange:
    """A file that a run would write."""

    host: str
    path: str
    before: str
    """Its text now; empty: it is not there."""

    after: str
    """Its text then; empty: it is gone."""


@dataclass(frozen=True)
class Plan:
    """All of them."""

    steps: tuple[Step, ...] = ()
    files: tuple[FileChange, ...] = ()
    pools: tuple[str, ...] = ()
    """Pools and the passthrough rule before and after, in words."""

    order: str = ""
    """Whether the CA would be asked for a certificate, in words."""

    scripts: tuple[tuple[str, str], ...] = ()
    """Host, and what root's shell there would be given, in the order in which it would be."""

    def __add__(self, other: Plan) -> Plan:
        """Return this and what comes after it."""
        return Plan(
            self.steps + other.steps,
            self.files + other.files,
            self.pools + other.pools,
            self.order or other.order,
            self.scripts + other.scripts,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return {
            "steps": [asdict(each) for each in self.steps],
            "files": [
                {"host": each.host, "path": each.path, "diff": diff(each)} for each in self.files
            ],
            "pools": list(self.pools),
            "order": self.order,
            "scripts": [{"host": name, "script": text} for name, text in self.scripts],
        }

    def text(self) -> str:
        """Return what a person reads."""
        if not self.steps and not self.files:
            return "nothing would be changed"
        lines = _of_steps(self.steps)
        if self.pools:
            lines += ["pools and forwarding rule", *(f"    {line}" for line in self.pools)]
        if self.order:
            lines += [f"order at the CA: {self.order}"]
        if self.files:
            lines += ["files", *_of_files(self.files)]
        if self.scripts:
            lines += ["commands, by root's shell on the hosts", *_of_scripts(self.scripts)]
        return "\n".join(lines)


# From pyinfra


def planned(operations: Iterable[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Return the steps of a prepared run: each with its name and the hosts that it would change."""
    found: list[Step] = []
    phase = ""
    for each in operations:
        if "phase" in each:
            phase = each["phase"]
            continue
        found += [Step(phase, host, each["name"]) for host in each["hosts"]]
    return tuple(found)


# Files


def masked(text: str) -> str:
    """Return a text without what must not be shown: whoever has the heartbeat can stand in."""
    return re.sub(r"""(heartbeat_url"?\s*[:=]\s*["'])[^"']+""", r"\1(not shown)", text)


def diff(change: FileChange) -> str:
    """Return how a file changes, as diff -u shows it; a new one is all new."""
    after = masked(change.after)
    lines = difflib.unified_diff(
        masked(change.before).splitlines(), after.splitlines(), "now", "then", lineterm="", n=1
    )
    return "\n".join(list(lines)[2:])


def _of_files(files: Sequence[FileChange]) -> list[str]:
    hosts: dict[tuple[str, str], list[str]] = {}
    for each in files:
        hosts.setdefault((each.path, diff(each)), []).append(each.host)
    lines = []
    for (path, text), names in sorted((key, sorted(value)) for key, value in hosts.items()):
        shown = text.splitlines()
        place = f"    {path} ({', '.join(names)}):"
        if whole := _whole(shown):
            lines.append(f"{place} {whole}, {len(shown) - 1} lines")
            lines += _cut(shown[1:], SHOWN_OF_WHOLE)
            continue
        lines += [place, *_cut(shown, SHOWN_LINES)]
    return lines


def _whole(diff: Sequence[str]) -> str:
    """Return that a file comes or goes as a whole, in a word, from the head of its difference."""
    head = diff[0] if diff else ""
    return "new" if head.startswith("@@ -0,0 ") else "gone" if head.endswith(" +0,0 @@") else ""


def _of_scripts(scripts: Sequence[tuple[str, str]]) -> list[str]:
    hosts: dict[str, list[str]] = {}
    for name, text in scripts:
        hosts.setdefault(text, []).append(name)
    lines = []
    for text, names in hosts.items():
        lines += [f"    {', '.join(names)}:", *_cut(text.splitlines(), SHOWN_LINES)]
    return lines


def _cut(lines: Sequence[str], most: int) -> list[str]:
    """Return the first of some lines, none of them too wide, and how many there are besides."""
    shown = [line if len(line) < WIDEST else f"{line[:WIDEST]}…" for line in lines[:most]]
    more = [f"… {len(lines) - most} more lines"] if len(lines) > most else []
    return [f"        {line}" for line in (*shown, *more)]


# Words


def _of_steps(steps: Sequence[Step]) -> list[str]:
    lines: list[str] = []
    phase = ""
    grouped: dict[Step, list[str]] = {}
    for step in steps:
        grouped.setdefault(replace(step, host=""), []).append(step.host)
    for step, hosts in grouped.items():
        if step.phase != phase:
            phase = step.phase
            lines.append(phase)
        depends = f", depending on {step.depends}" if step.depends else ""
        lines.append(f"    {step.what}{depends}: {', '.join(hosts)}")
    return lines


def deviations(plan: Sequence[Step], taken: Collection[tuple[str, str]]) -> list[str]:
    """Return where a run was not what was planned; ``taken`` has the place and step of each.

    It may leave out what depends on something, and nothing else; and it does nothing more.
    """
    told = {(step.host, step.what): step for step in plan}
    extra = [f"not planned: {host}: {what}" for host, what in taken if (host, what) not in told]
    left = [
        f"planned, and not done: {step.host}: {step.what}"
        for place, step in told.items()
        if not step.depends and place not in taken
    ]
    return extra + left

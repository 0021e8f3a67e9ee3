"""What a command would do, as a dry run prints it: steps, files, pools. Pure.

The steps of a deploy are those that pyinfra has prepared and a real run executes. Steps that are
decided during the run are listed as depending.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

HERE = "here"
"""The place of a step on the operator's machine, not on a host of the fleet."""

SHOWN_LINES, WIDEST = 60, 110
"""Limits for the diff of one file: lines, and characters per line."""

SHOWN_OF_WHOLE = 12
"""Lines shown of a new or deleted file: a first deploy has many. The JSON has all lines."""


@dataclass(frozen=True)
class Step:
    """A change that a run makes in one place."""

    phase: str
    host: str
    what: str
    depends: str = ""
    """What decides whether it is taken, as text; empty: it is taken."""


@dataclass(frozen=True)
class FileChange:
    """A file that a run would write."""

    host: str
    path: str
    before: str
    """Its text now; empty: it does not exist."""

    after: str
    """Its text afterwards; empty: it is deleted."""


@dataclass(frozen=True)
class Plan:
    """The steps and files of a run, and what else a dry run shows."""

    steps: tuple[Step, ...] = ()
    files: tuple[FileChange, ...] = ()
    pools: tuple[str, ...] = ()
    """Pools and the passthrough rule before and after, as text."""

    order: str = ""
    """Whether a certificate would be ordered, as text."""

    scripts: tuple[tuple[str, str], ...] = ()
    """Host and the script that root's shell there would run, in order."""

    def __add__(self, other: Plan) -> Plan:
        """Return this plan followed by another."""
        return Plan(
            self.steps + other.steps,
            self.files + other.files,
            self.pools + other.pools,
            self.order or other.order,
            self.scripts + other.scripts,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
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
            lines += ["commands run as root on the hosts", *_of_scripts(self.scripts)]
        return "\n".join(lines)


# From pyinfra


def planned(operations: Iterable[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Return the steps of a prepared run, one for each host that an operation would change."""
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
    """Mask the heartbeat URL in a text: anybody who knows it can fake a good run."""
    return re.sub(r"""(heartbeat_url"?\s*[:=]\s*["'])[^"']+""", r"\1(not shown)", text)


def diff(change: FileChange) -> str:
    """Return a file's change in the form of diff -u."""
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
    """Return `new` or `deleted` if the diff's header says so; else nothing."""
    head = diff[0] if diff else ""
    return "new" if head.startswith("@@ -0,0 ") else "deleted" if head.endswith(" +0,0 @@") else ""


def _of_scripts(scripts: Sequence[tuple[str, str]]) -> list[str]:
    hosts: dict[str, list[str]] = {}
    for name, text in scripts:
        hosts.setdefault(text, []).append(name)
    lines = []
    for text, names in hosts.items():
        lines += [f"    {', '.join(names)}:", *_cut(text.splitlines(), SHOWN_LINES)]
    return lines


def _cut(lines: Sequence[str], most: int) -> list[str]:
    """Return the first lines, each shortened to the width, and the number of the others."""
    shown = [line if len(line) < WIDEST else f"{line[:WIDEST]}…" for line in lines[:most]]
    more = [f"… {len(lines) - most} more lines"] if len(lines) > most else []
    return [f"        {line}" for line in (*shown, *more)]


# Text


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
    """Return where a run deviated from its plan; ``taken`` has host and step of each.

    A run may skip depending steps, but no others, and must do nothing else.
    """
    planned = {(step.host, step.what): step for step in plan}
    extra = [f"not planned: {host}: {what}" for host, what in taken if (host, what) not in planned]
    skipped = [
        f"planned but not done: {step.host}: {step.what}"
        for place, step in planned.items()
        if not step.depends and place not in taken
    ]
    return extra + skipped

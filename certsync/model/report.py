"""What a person is shown about a fleet: rows, a table, and the same for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from certsync.model.fleet import Fleet
from certsync.model.proof import Proof, Verdict

HEADINGS = ("backend", "generation", "served", "days left", "in pool", "finding")
SHORT = 12
"""Hex digits of a fingerprint that a person compares."""


@dataclass(frozen=True)
class Row:
    """One backend, or one balancer's public address."""

    host: str
    generation: str
    fingerprint: str
    days_left: int | None
    pool: str
    """What the balancers say: `yes`, `disabled`, `down: …`, or nothing if none was asked."""

    finding: str
    good: bool
    proven: bool = False
    """Whether it serves the current generation, whatever the balancers say."""

    lineage: str = ""
    """Which certificate it is about, where that is not the fleet's first."""

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.host} {self.lineage}" if self.lineage else self.host

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return {"name": self.name, **asdict(self)}


def row(proof: Proof, pool: str, now: datetime) -> Row:
    """Return the row of a host; membership counts only where a balancer was asked."""
    left = None
    if proof.not_after:
        left = (datetime.fromisoformat(proof.not_after) - now).days
    good = proof.verdict is Verdict.IN_SYNC and pool in ("yes", "", "-")
    finding = proof.why
    if proof.verdict is Verdict.IN_SYNC and pool == "disabled":
        finding = "in sync, and admitted by the next `certsync deploy`"
    proven = proof.verdict is Verdict.IN_SYNC
    return Row(proof.name, proof.generation, proof.fingerprint, left, pool, finding, good, proven)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text, one line each under a heading."""
    lines = [HEADINGS, *(_cells(each) for each in rows)]
    if not any(each.finding for each in rows):
        lines = [line[:-1] for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(each: Row) -> tuple[str, ...]:
    days = "-" if each.days_left is None else str(each.days_left)
    shown = each.fingerprint[:SHORT] or "-"
    return (each.name, each.generation or "-", shown, days, each.pool or "-", each.finding)


def pool_words(answers: Mapping[str, str]) -> str:
    """Return what several balancers say of one member in one word, each named where they differ."""
    said = set(answers.values())
    if len(said) == 1:
        return said.pop()
    return ", ".join(f"{name}: {word}" for name, word in sorted(answers.items()))


def trust_note(fleet: Fleet) -> str:
    """Return the line that tells of a certificate browsers do not trust; else nothing."""
    if fleet.authority.publicly_trusted:
        return ""
    return (
        f"this certificate is not publicly trusted: it is signed by {fleet.authority.directory}, "
        "and browsers will warn"
    )

"""A fleet's status for people: rows and a table, and the same for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from certsync.model.fleet import Fleet
from certsync.model.proof import Proof, Verdict

HEADINGS = ("backend", "generation", "served", "days left", "in pool", "key exchange", "finding")
"""The last two columns are shown only if a row has something there."""

SHORT = 12
"""Hex digits of a fingerprint to show: enough to compare by eye."""


@dataclass(frozen=True)
class Row:
    """One backend, or one balancer's public address."""

    host: str
    generation: str
    fingerprint: str
    days_left: int | None
    pool: str
    """What the balancers report: `yes`, `disabled`, `down: …`; empty: none was asked."""

    finding: str
    good: bool
    proven: bool = False
    """Whether it serves the current generation, whatever the balancers say."""

    lineage: str = ""
    """Which certificate it is about, if not the fleet's first."""

    key_exchange: str = ""
    """The group that it chooses; empty: unknown."""

    @property
    def name(self) -> str:
        """The row's label."""
        return f"{self.host} {self.lineage}" if self.lineage else self.host

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return {"name": self.name, **asdict(self)}


def row(proof: Proof, pool: str, now: datetime) -> Row:
    """Return a host's row; pool membership counts only if a balancer was asked."""
    left = None
    if proof.not_after:
        left = (datetime.fromisoformat(proof.not_after) - now).days
    good = proof.verdict is Verdict.IN_SYNC and pool in ("yes", "", "-")
    finding = proof.why
    if proof.verdict is Verdict.IN_SYNC and pool == "disabled":
        finding = "in sync; the next `certsync deploy` admits it"
    return Row(
        proof.name,
        proof.generation,
        proof.fingerprint,
        left,
        pool,
        finding,
        good,
        proven=proof.verdict is Verdict.IN_SYNC,
        key_exchange=proof.key_exchange,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text under a heading."""
    lines = [HEADINGS, *(_cells(each) for each in rows)]
    if not any(each.finding for each in rows):
        lines = [line[:-1] for line in lines]
    if not any(each.key_exchange for each in rows):
        lines = [line[:5] + line[6:] for line in lines]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(each: Row) -> tuple[str, ...]:
    days = "-" if each.days_left is None else str(each.days_left)
    shown = each.fingerprint[:SHORT] or "-"
    first = (each.name, each.generation or "-", shown, days, each.pool or "-")
    return (*first, each.key_exchange or "-", each.finding)


def pool_words(answers: Mapping[str, str]) -> str:
    """Return what balancers report on a member: one word, or one per balancer if they differ."""
    said = set(answers.values())
    if len(said) == 1:
        return said.pop()
    return ", ".join(f"{name}: {word}" for name, word in sorted(answers.items()))


def trust_note(fleet: Fleet) -> str:
    """Return a warning if browsers do not trust the certificate; else nothing."""
    if fleet.authority.publicly_trusted:
        return ""
    return (
        f"this certificate is not publicly trusted: it is signed by {fleet.authority.directory}, "
        "and browsers will warn"
    )

"""What an hourly run would do now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.ca import due
from certsync.issuer.memory import Memory
from certsync.issuer.replicas import transport
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.issuer.steps import RENEWAL, ROLLOUT, Step
from certsync.issuer.tickets import share
from certsync.model.generation import number_text


@dataclass(frozen=True)
class Outlook:
    """What a renewal would do now."""

    due: str
    """Why an order would be placed; empty: none would."""

    steps: list[str]
    note: str
    """When the next renewal is due, and why."""

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return {"due": self.due, "steps": self.steps, "note": self.note}


def outlook(
    looks: Sequence[Situation], memory: Memory, now: datetime, *, force: bool = False
) -> Outlook:
    """Return what would be done, asking every backend but not the CA; nothing is changed.

    Raises:
        StoreError: the roots to verify against cannot be read.
    """
    found = [_of_lineage(one, memory.of(one.name), now, force=force) for one in looks]
    if not any(each.due for each in found) and looks[0].current:
        sharing = share.outlook(looks, now)
        found[-1] = replace(found[-1], steps=found[-1].steps + sharing)
    if len(found) == 1:
        return found[0]
    told = [(one.name, each) for one, each in zip(looks, found, strict=True)]
    return Outlook(
        "; ".join(f"{name}: {each.due}" for name, each in told if each.due),
        [f"{name}: {step}" for name, each in told for step in each.steps],
        "; ".join(f"{name}: {each.note}" for name, each in told if each.note),
    )


def _of_lineage(seen: Situation, known: LineageState, now: datetime, *, force: bool) -> Outlook:
    look = due.outlook(seen, known, now, force=force)
    steps = transport.of(seen.fleet).outlook(seen, now) if look.newest else []
    if look.due:
        left_out = {Step.REMEMBER} | ({Step.SHARE} if not seen.fleet.share_tickets else set())
        steps += [step.value for step in RENEWAL if step not in left_out]
    elif steps:
        steps += [step.value for step in ROLLOUT if step is Step.PROVE]
    if seen.marks.open:
        steps += [Step.REVOKE.value, Step.DISCARD.value]
    note = ""
    if look.coming and look.newest:
        number = number_text(look.newest.number)
        note = (
            f"generation {number} will be renewed after {look.coming.moment:%Y-%m-%d %H:%M} UTC: "
            f"{look.coming.why}"
        )
    return Outlook(look.due.why if look.due else "", steps, note)


def described(outlook: Outlook) -> Sequence[str]:
    """Return an outlook as lines for people."""
    lines = [f"an order would be placed: {outlook.due}"] if outlook.due else []
    lines += outlook.steps
    return [*lines, outlook.note] if outlook.note else lines

"""What an hourly run would do now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.issuer.ca import due
from certsync.issuer.replicas import replicate
from certsync.issuer.steps import RENEWAL, ROLLOUT, Step
from certsync.issuer.store import Store
from certsync.issuer.tickets import share
from certsync.model.generation import number_text


@dataclass(frozen=True)
class Outlook:
    """What a renewal would do now."""

    due: str
    """Why an order would be made; empty: none would."""

    steps: list[str]
    note: str
    """When the next renewal is due, and why then."""

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return {"due": self.due, "steps": self.steps, "note": self.note}


def outlook(store: Store, now: datetime, *, force: bool = False) -> Outlook:
    """Return what would be done, asking every backend and not the CA, and changing nothing.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    stores = store.lineages()
    looks = [_of_lineage(one, now, force=force) for one in stores]
    if not any(look.due for look in looks) and store.current(stores[0].lineage):
        sharing = share.outlook(store, now).steps
        looks[-1] = replace(looks[-1], steps=looks[-1].steps + sharing)
    if len(looks) == 1:
        return looks[0]
    names = [one.lineage for one in stores]
    told = list(zip(names, looks, strict=True))
    return Outlook(
        "; ".join(f"{name}: {look.due}" for name, look in told if look.due),
        [f"{name}: {step}" for name, look in told for step in look.steps],
        "; ".join(f"{name}: {look.note}" for name, look in told if look.note),
    )


def _of_lineage(store: Store, now: datetime, *, force: bool) -> Outlook:
    look = due.outlook(store, now, force=force)
    steps = replicate.outlook(store, now).steps if look.newest else []
    if look.due:
        left_out = {Step.REMEMBER} | ({Step.SHARE} if not look.fleet.share_tickets else set())
        steps += [step.value for step in RENEWAL if step not in left_out]
    elif steps:
        steps += [step.value for step in ROLLOUT if step is Step.PROVE]
    if store.compromised(look.fleet.lineage).open:
        steps += [Step.REVOKE.value, Step.DISCARD.value]
    note = ""
    if look.coming and look.newest:
        number = number_text(look.newest.number)
        note = (
            f"generation {number} is renewed after {look.coming.moment:%Y-%m-%d %H:%M} UTC: "
            f"{look.coming.why}"
        )
    return Outlook(look.due.why if look.due else "", steps, note)


def described(outlook: Outlook) -> Sequence[str]:
    """Return an outlook as lines that a person reads."""
    lines = [f"an order would be made: {outlook.due}"] if outlook.due else []
    lines += outlook.steps
    return [*lines, outlook.note] if outlook.note else lines

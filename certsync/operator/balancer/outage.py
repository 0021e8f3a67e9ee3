"""Edits of a fleet file that would leave a lineage without anybody to serve it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from certsync.model.fleet import Fleet
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate

NOBODY_LEFT = "none of the backends that serve {} now would still serve it"
TWO_DEPLOYS = (
    "new backends are admitted at the end of a deploy, once they are proven: add them to "
    "served_by, deploy, then remove the old ones and deploy again"
)
UNCOVERED = (
    "{} would have no certificate until {} gets a new one: a lineage is identified by its first "
    "name, and its current certificate only covers the names it had"
)
KEEP_FIRST = (
    "keep each name in its lineage, and the first one first; or, if an outage is acceptable: "
    "`certsync passthrough off`, deploy, `certsync passthrough on`, and deploy again"
)


@dataclass(frozen=True)
class Outage:
    """Why a lineage would not be served during a deploy."""

    text: str
    hint: str


def outages(fleet: Fleet, deployed: Fleet | None, before: Gate) -> list[Outage]:
    """Return what would not be served, by what a balancer has now.

    ``deployed`` is the deployed fleet; None: there is none.
    """
    found = [
        Outage(NOBODY_LEFT.format(lineage), TWO_DEPLOYS)
        for lineage in gate.abandoned(fleet, before)
    ]
    uncovered = gate.uncovered(fleet, deployed, before) if deployed else {}
    return found + [
        Outage(UNCOVERED.format(", ".join(names), lineage), KEEP_FIRST)
        for lineage, names in uncovered.items()
    ]

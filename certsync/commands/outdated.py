"""Nothing old goes live over something newer: an issuer may have been restored from a backup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certsync import proving, revocation, rollout
from certsync.errors import OutdatedError
from certsync.fleet import Fleet
from certsync.generation import Manifest, number_text
from certsync.rollout import Plan
from certsync.schedule import last_chance
from certsync.store import Store

Tell = Callable[[str], None]

YOUNG = timedelta(days=1)
"""The CA is asked about a certificate that is older than this, or that is live already."""


NEWER = (
    "was {} restored from a backup, or reverted to a snapshot? Then `certsync renew --force` there "
    "orders one that replaces both; until then each backend serves what it has"
)
ORDERED = "another one is ordered by the hourly run, or now with `certsync renew --force`"


@dataclass(frozen=True)
class Finding:
    """Why a generation should not be activated on any backend; each empty: no reason."""

    newer: str = ""
    """Which backends serve a newer one."""

    revoked: str = ""
    """What the CA says of it."""

    @property
    def why(self) -> str:
        """The first reason, in words."""
        return self.newer or self.revoked


def look(fleet: Fleet, store: Store, plan: Plan, now: datetime) -> Finding:
    """Return why a plan's generation is outdated, if it is and something would be activated.

    The backends are asked, and the CA: its revocation list and its renewal information.

    Raises:
        StoreError: the store cannot be read.
    """
    if not plan.activate:
        return Finding()
    generation = store.manifests(fleet.lineage)[plan.number]
    number = number_text(plan.number)
    serving = _serving_newer(fleet, store, generation, plan, now)
    newer = ", ".join(f"{name} serves {other}" for name, other in serving.items())
    newer = newer and f"generation {number} is older than what is served: {newer}"
    revoked = ""
    if plan.number == store.current(fleet.lineage) or now - generation.not_before > YOUNG:
        revoked = revocation.look(fleet, store, generation, now).revoked
    return Finding(newer, revoked and f"generation {number}: {revoked}")


def _serving_newer(
    fleet: Fleet, store: Store, generation: Manifest, plan: Plan, now: datetime
) -> dict[str, str]:
    """Return the backends that serve something newer, and its number by their word."""
    claiming = rollout.claiming_newer(plan)
    machines = [each for each in fleet.holders if each.name in claiming]
    if not machines:
        return {}
    proofs = proving.prove(machines, fleet, proving.expected(fleet, store), now)
    numbers = {each.name: each.current for each in plan.standings}
    return {name: numbers[name] for name in rollout.serving_newer(generation, proofs)}


def refuse(fleet: Fleet, store: Store, plan: Plan, now: datetime, tell: Tell) -> None:
    """Refuse to activate what is older than what a backend serves, or what the CA has revoked.

    A revoked one is noted, so that another one is ordered. It is better than none where the live
    certificate is about to expire.

    Raises:
        OutdatedError: it is outdated; nothing was changed.
        StoreError: the store cannot be read.
    """
    found = look(fleet, store, plan, now)
    manifests = store.manifests(fleet.lineage)
    if found.revoked:
        state = store.recall()
        fingerprint = manifests[plan.number].fingerprint
        known = replace(state.lineage(fleet.lineage), revoked=fingerprint)
        store.remember(state.having(fleet.lineage, known))
    if found.newer:
        raise OutdatedError(f"nothing is activated: {found.newer}", NEWER.format(fleet.issuer_name))
    end = last_chance(manifests.get(store.current(fleet.lineage) or 0))
    if found.revoked and (end is None or now < end):
        raise OutdatedError(f"nothing is activated: {found.revoked}", ORDERED)
    if found.revoked:
        tell(f"warning: {found.revoked}")

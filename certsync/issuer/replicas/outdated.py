"""Nothing old goes live over something newer: an issuer may have been restored from a backup."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certsync.issuer.ca import ari, crl
from certsync.issuer.replicas import rollout
from certsync.issuer.replicas.expected import expected
from certsync.issuer.replicas.rollout import Plan
from certsync.issuer.schedule import EARLY, last_chance
from certsync.issuer.state import Lineage
from certsync.issuer.store import Store
from certsync.model.errors import CaSilentError, OutdatedError
from certsync.model.fleet import Fleet
from certsync.model.generation import Manifest, number_text
from certsync.system import proving

Tell = Callable[[str], None]

YOUNG = timedelta(days=1)
"""The CA is asked about a certificate that is older than this, or that is live already."""

ASK_AGAIN = timedelta(hours=6)
"""A replica that lags for long must not have the CA asked in every run."""

NEWER = (
    "was {} restored from a backup, or reverted to a snapshot? Then `certsync renew --force` there "
    "orders a certificate that replaces all of them; until then each backend serves what it has"
)
ORDERED = "another one is ordered by the hourly run, or now with `certsync renew --force`"


@dataclass(frozen=True)
class Finding:
    """Why a generation should not be activated on any backend; each empty: no reason."""

    newer: str = ""
    """Which backends serve a newer one."""

    revoked: str = ""
    """That it is on the CA's revocation list."""

    unwanted: str = ""
    """That the CA wants it replaced at once, and no order has failed at that."""

    @property
    def why(self) -> str:
        """The first reason, in words."""
        return self.newer or self.revoked or self.unwanted


def look(fleet: Fleet, store: Store, plan: Plan, now: datetime) -> Finding:
    """Return why a plan's generation is outdated, as far as the backends know it.

    The CA is not asked.

    Raises:
        StoreError: the store cannot be read.
    """
    if not plan.activate:
        return Finding()
    generation = store.manifests(fleet.lineage)[plan.number]
    serving = _serving_newer(fleet, store, generation, plan, now)
    newer = ", ".join(f"{name} serves {other}" for name, other in serving.items())
    if not newer:
        return Finding()
    number = number_text(plan.number)
    return Finding(f"generation {number} is older than what is served: {newer}")


def _serving_newer(
    fleet: Fleet, store: Store, generation: Manifest, plan: Plan, now: datetime
) -> dict[str, str]:
    """Return the backends that serve something newer, and its number by their word."""
    claiming = rollout.claiming_newer(plan)
    machines = [each for each in fleet.holders if each.name in claiming]
    if not machines:
        return {}
    proofs = proving.prove(machines, fleet, expected(fleet, store), now)
    numbers = {each.name: each.current for each in plan.standings}
    return {name: numbers[name] for name in rollout.serving_newer(generation, proofs)}


def refuse(fleet: Fleet, store: Store, plan: Plan, now: datetime, tell: Tell) -> None:
    """Refuse to activate what is older than what a backend serves, or what the CA has revoked.

    The CA is asked about what is live already, or over a day old: its revocation list and its
    renewal information. A revoked one is noted, so that another one is ordered. An outdated one
    is better than none where the live certificate is about to expire.

    Raises:
        OutdatedError: it is outdated; nothing was changed.
        StoreError: the store cannot be read.
    """
    found = look(fleet, store, plan, now)
    if plan.activate:
        found = _with_the_cas_word(found, fleet, store, plan, now)
    if not found.why:
        return
    end = last_chance(store.live_manifest(fleet.lineage))
    if end is not None and now >= end:
        tell(f"warning: {found.why}")
        return
    hint = NEWER.format(fleet.issuer_name) if found.newer else ORDERED
    raise OutdatedError(f"nothing is activated: {found.why}", hint)


def _with_the_cas_word(
    found: Finding, fleet: Fleet, store: Store, plan: Plan, now: datetime
) -> Finding:
    """Return a finding with what the CA says, which is remembered between runs."""
    generation = store.manifests(fleet.lineage)[plan.number]
    if plan.number != store.current(fleet.lineage) and now - generation.not_before <= YOUNG:
        return found
    known = store.recall().lineage(fleet.lineage)
    asked = datetime.fromisoformat(known.revocation_asked) if known.revocation_asked else None
    # What a restored issuer remembers of it was restored with it.
    if found.newer or asked is None or not timedelta(0) <= now - asked < ASK_AGAIN:
        known = _asked(known, fleet, store, generation, now)
        store.remember(store.recall().having(fleet.lineage, known))
    number = number_text(plan.number)
    revoked = f"generation {number}: the CA has revoked it"
    unwanted = _unwanted(known, generation, now)
    return replace(
        found,
        revoked=revoked if known.revoked == generation.fingerprint else "",
        unwanted=f"generation {number}: {unwanted}" if unwanted else "",
    )


def _asked(
    known: Lineage, fleet: Fleet, store: Store, generation: Manifest, now: datetime
) -> Lineage:
    """Return what is remembered of a lineage, with what the CA says of a generation now."""
    fullchain = store.files(fleet.lineage, generation.number)["fullchain.pem"]
    known = replace(known, revocation_asked=now.isoformat())
    if crl.by_list(fullchain, now).revoked:
        known = replace(known, revoked=generation.fingerprint)
    if generation.directory == fleet.authority.directory:
        with contextlib.suppress(CaSilentError):
            said, _answer = ari.ask(fleet, store, generation, now)
            known = replace(known, advice=said)
    return known


def _unwanted(known: Lineage, generation: Manifest, now: datetime) -> str:
    """Return that the CA wants a generation replaced, where an order is likely to do that.

    A CA that refuses orders, or wants every new certificate replaced, keeps nobody from the one
    that there is.
    """
    renewed_early_at = (
        datetime.fromisoformat(known.renewed_early_at) if known.renewed_early_at else None
    )
    is_recent = renewed_early_at is not None and timedelta(0) <= now - renewed_early_at < EARLY
    if known.advice is None or known.tries.count or is_recent:
        return ""
    return crl.wants_it_replaced(generation, known.advice, now)

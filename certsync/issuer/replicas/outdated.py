"""Do not replace something newer with something older: the issuer may be a restored backup."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from certsync.issuer.ca import ari, crl
from certsync.issuer.replicas import rollout
from certsync.issuer.replicas.expected import expected
from certsync.issuer.replicas.rollout import Plan
from certsync.issuer.run import Run
from certsync.issuer.schedule import EARLY, last_chance
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.issuer.store import Kept
from certsync.model.errors import CaSilentError, OutdatedError
from certsync.model.generation import Manifest, number_text
from certsync.system import proving

YOUNG = timedelta(days=1)
"""The CA is asked about certificates that are older than this or live already."""

ASK_AGAIN = timedelta(hours=6)
"""So that a replica that lags for long does not make every run ask the CA."""

NEWER = (
    "if {} was restored from a backup or snapshot, run `certsync renew --force` there to replace "
    "all of them; until then each backend serves what it has"
)
ORDERED = "the hourly run orders another one; `certsync renew --force` orders it now"


@dataclass(frozen=True)
class Finding:
    """Why a generation should not be activated anywhere; all empty: no reason."""

    number: int = 0
    newer_on: Mapping[str, str] = field(default_factory=dict)
    """The backends that serve a newer one, and its number according to them."""

    revoked: str = ""
    """Says that it is on the CA's revocation list."""

    unwanted: str = ""
    """Says that the CA wants it replaced at once, and no order for that has failed."""

    @property
    def newer(self) -> str:
        """Which backends serve a newer one, in words; empty: none does."""
        on = ", ".join(f"{name} serves {other}" for name, other in self.newer_on.items())
        number = number_text(self.number)
        return f"generation {number} is older than what is served: {on}" if on else ""

    @property
    def why(self) -> str:
        """The first reason, in words."""
        return self.newer or self.revoked or self.unwanted


def look(seen: Situation, plan: Plan, now: datetime) -> Finding:
    """Return why a plan's generation is outdated, judging only by the backends.

    The CA is not asked.

    Raises:
        StoreError: the roots to verify against cannot be read.
    """
    if not plan.activate:
        return Finding()
    return Finding(plan.number, _serving_newer(seen, plan, now))


def _serving_newer(seen: Situation, plan: Plan, now: datetime) -> dict[str, str]:
    """Return the backends that serve something newer, and its number according to them."""
    claiming = rollout.claiming_newer(plan)
    machines = [each for each in seen.holders if each.name in claiming]
    if not machines:
        return {}
    proofs = proving.prove(machines, seen.name, expected(seen), now)
    numbers = {each.name: each.current for each in plan.standings}
    serving = rollout.serving_newer(seen.kept[plan.number].manifest, proofs, now)
    return {name: numbers[name] for name in serving}


def refuse(run: Run, plan: Plan) -> Plan:
    """Refuse to activate something older than what a backend serves, or something revoked.

    For a generation that is live or over a day old, the CA's revocation list and renewal
    information are checked. A revocation is recorded, so that another one is ordered. If the live
    certificate is about to expire, an outdated one is better than none; but not for the backends
    that serve a newer one, which the plan then leaves alone.

    Raises:
        OutdatedError: it is outdated; nothing was changed.
        StoreError: the roots to verify against cannot be read.
    """
    seen = run.seen
    found = look(seen, plan, run.now)
    if plan.activate:
        found = _with_ca_status(found, run, plan)
    if not found.why:
        return plan
    end = last_chance(seen.live)
    if end is not None and run.now >= end:
        run.tell(f"warning: {found.why}")
        return replace(
            plan,
            push=tuple(name for name in plan.push if name not in found.newer_on),
            activate=tuple(name for name in plan.activate if name not in found.newer_on),
        )
    hint = NEWER.format(seen.fleet.issuer_name) if found.newer else ORDERED
    raise OutdatedError(f"nothing was activated: {found.why}", hint)


def _with_ca_status(found: Finding, run: Run, plan: Plan) -> Finding:
    """Return a finding with what the CA says, which is remembered between runs."""
    generation, now = run.seen.kept[plan.number], run.now
    manifest = generation.manifest
    if plan.number != run.seen.current and now - manifest.not_before <= YOUNG:
        return found
    asked = run.known.revocation_asked
    # On a restored issuer, this memory is from the backup, too.
    if found.newer or asked is None or not timedelta(0) <= now - asked < ASK_AGAIN:
        _ask(run, generation)
    number, known = number_text(plan.number), run.known
    revoked = f"generation {number}: the CA has revoked it"
    unwanted = _unwanted(known, manifest, now)
    return replace(
        found,
        revoked=revoked if known.revoked == manifest.fingerprint else "",
        unwanted=f"generation {number}: {unwanted}" if unwanted else "",
    )


def _ask(run: Run, generation: Kept) -> None:
    """Ask the CA about a generation now, and record the answer."""
    seen, manifest, now = run.seen, generation.manifest, run.now
    found: dict[str, Any] = {"revocation_asked": now}
    if crl.by_list(generation.fullchain, now).revoked:
        found["revoked"] = manifest.fingerprint
    directory = seen.fleet.authority.directory
    if manifest.directory == directory:
        with contextlib.suppress(CaSilentError):
            found["renewal_info"], _answer = ari.ask(directory, seen.bundle, manifest, now)
    run.note(**found)


def _unwanted(known: LineageState, generation: Manifest, now: datetime) -> str:
    """Return a text if the CA wants a generation replaced and an order is likely to succeed.

    A CA that refuses orders, or wants every new certificate replaced, must not keep the existing
    one from being used.
    """
    early = known.renewed_early_at
    is_recent = early is not None and timedelta(0) <= now - early < EARLY
    if known.renewal_info is None or known.tries.count or is_recent:
        return ""
    return crl.wants_it_replaced(generation, known.renewal_info, now)

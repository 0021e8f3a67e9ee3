"""`certsync rollback`, on the issuer: let the generation before be served everywhere again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from certsync.issuer.ca import crl
from certsync.issuer.replicas import receivers, replicate
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.steps import ROLLOUT
from certsync.issuer.store import Store
from certsync.model.errors import FencedError, RolloutError, StoreError, VetoError
from certsync.model.fleet import Fleet
from certsync.model.generation import Manifest, before, number_text

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Way:
    """From which generation to which."""

    fleet: Fleet
    withdrawn: int
    to: Manifest

    def steps(self) -> list[str]:
        """Return what is to be done, in words."""
        first = f"withdraw generation {number_text(self.withdrawn)}: no run activates it again"
        number = number_text(self.to.number)
        return [first, *(f"generation {number}: {step.value}" for step in ROLLOUT)]


def way(store: Store, now: datetime) -> Way:
    """Return where a rollback leads, changing nothing.

    Raises:
        StoreError: there is nothing to go back to, or what is there has expired.
    """
    fleet = store.fleet()
    manifests, barred = store.manifests(fleet.lineage), store.barred(fleet.lineage)
    current = store.target(fleet.lineage)
    number = before(manifests, barred, current) if current else None
    if current is None or number is None:
        _refuse_compromised(store, fleet, current)
        kept = ", ".join(number_text(each) for each in store.numbers(fleet.lineage)) or "none"
        raise StoreError(
            f"there is no generation to go back to (kept here: {kept})",
            "a new one is ordered and rolled out with: certsync renew --force",
        )
    found = manifests[number]
    if now >= found.not_after:
        raise StoreError(
            f"generation {number_text(number)} expired on {found.not_after:%Y-%m-%d %H:%M} UTC, "
            "so it is not gone back to",
            "a new one is ordered and rolled out with: certsync renew --force",
        )
    return Way(fleet, current, found)


def rollback(store: Store, now: datetime, tell: Tell, done: list[str]) -> Outcome:
    """Activate the generation before, everywhere, and prove it; the one after is withdrawn.

    ``done`` gets what was changed, in words.

    Raises:
        StoreError: there is nothing to go back to, or it has expired or was revoked.
        RolloutError: the issuer refuses it, or a backend does not serve it; each is named.
        FencedError: a replica refuses the push key; nothing is withdrawn then.
    """
    there = way(store, now)
    _refuse_revoked(store, there, now, tell)
    _refuse_what_the_issuer_refuses(there)
    lineage, marks = there.fleet.lineage, store.withdrawn(there.fleet.lineage)
    # First the mark: a run that is cut off after it is finished by the next one, and not undone.
    newer = [number for number in store.numbers(lineage) if number > there.to.number]
    store.withdraw(lineage, {**dict.fromkeys(newer, now), **marks})
    try:
        outcome = replicate.roll_out(store, now, tell)
    except (VetoError, FencedError):
        store.withdraw(lineage, marks)
        raise
    done.append(
        f"rolled back from generation {number_text(there.withdrawn)} to "
        f"{number_text(there.to.number)}"
    )
    if outcome.failures:
        raise outcome.error()
    return outcome


def _refuse_compromised(store: Store, fleet: Fleet, current: int | None) -> None:
    """Say why there is nothing to go back to, where a compromised key is why."""
    marks = store.compromised(fleet.lineage)
    older = [each for each in marks.numbers if current is None or each < current]
    if older:
        raise StoreError(
            f"generation {number_text(max(older))} is not gone back to: {marks.why(max(older))}",
            "a new one is ordered and rolled out with: certsync renew --force",
        )


def _refuse_revoked(store: Store, there: Way, now: datetime, tell: Tell) -> None:
    number = number_text(there.to.number)
    found = crl.look(there.fleet, store, there.to, now)
    if found.revoked:
        raise StoreError(
            f"generation {number} is not gone back to: {found.revoked}",
            "a new one is ordered and rolled out with: certsync renew --force",
        )
    if found.unknown:
        tell(f"warning: whether generation {number} was revoked is not known: {found.unknown}")


def _refuse_what_the_issuer_refuses(there: Way) -> None:
    with receivers.connected(there.fleet) as backends:
        issuer = backends[0]
        answer = issuer.ask("check", there.fleet.lineage, there.to.number)
    if not answer.ok:
        raise RolloutError(
            f"{issuer.name}, the issuer, refuses generation {number_text(there.to.number)}: "
            f"{answer.why}",
            "nothing was changed; certsync renew --force orders a new one",
        )

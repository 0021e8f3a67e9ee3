"""`certsync rollback`, on the issuer: let the generation before be served everywhere again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certsync.issuer.ca import crl
from certsync.issuer.compromise import Marks
from certsync.issuer.replicas import receivers, transport
from certsync.issuer.run import Run
from certsync.issuer.situation import Situation
from certsync.issuer.steps import ROLLOUT
from certsync.model.errors import FencedError, RolloutError, StoreError, VetoError
from certsync.model.generation import Manifest, before, number_text

RENEW = "a new one is ordered and rolled out with: certsync renew --force"


@dataclass(frozen=True)
class Way:
    """From which generation to which."""

    withdrawn: int
    to: Manifest

    def steps(self) -> list[str]:
        """Return what is to be done, in words."""
        first = f"withdraw generation {number_text(self.withdrawn)}: no run activates it again"
        number = number_text(self.to.number)
        return [first, *(f"generation {number}: {step.value}" for step in ROLLOUT)]


def way(seen: Situation, now: datetime) -> Way:
    """Return where a rollback leads, changing nothing.

    Raises:
        StoreError: there is nothing to go back to, or what is there has expired.
    """
    current = seen.target
    number = before(seen.manifests, seen.barred, current) if current else None
    if current is None or number is None:
        _refuse_compromised(seen.marks, current)
        kept = ", ".join(number_text(each) for each in seen.numbers) or "none"
        raise StoreError(f"there is no generation to go back to (kept here: {kept})", RENEW)
    found = seen.kept[number].manifest
    if now >= found.not_after:
        raise StoreError(
            f"generation {number_text(number)} expired on {found.not_after:%Y-%m-%d %H:%M} UTC, "
            "so it is not gone back to",
            RENEW,
        )
    return Way(current, found)


def rollback(run: Run) -> None:
    """Activate the generation before, everywhere, and prove it; the one after is withdrawn.

    Raises:
        StoreError: there is nothing to go back to, or it has expired or was revoked.
        RolloutError: the issuer refuses it, or a backend does not serve it; each is named.
        FencedError: a replica refuses the push key; nothing is withdrawn then.
    """
    seen = run.seen
    there = way(seen, run.now)
    _refuse_revoked(run, there.to.number)
    _refuse_what_the_issuer_refuses(seen, there.to.number)
    # First the mark: a run that is cut off after it is finished by the next one, and not undone.
    newer = [number for number in seen.numbers if number > there.to.number]
    seen.store.withdraw(run.name, {**dict.fromkeys(newer, run.now), **seen.withdrawn})
    run.look_again()
    try:
        outcome = transport.of(seen.fleet).roll_out(run)
    except (VetoError, FencedError):
        seen.store.withdraw(run.name, seen.withdrawn)
        raise
    run.did(
        f"rolled back from generation {number_text(there.withdrawn)} to "
        f"{number_text(there.to.number)}"
    )
    if outcome.failures:
        raise outcome.error()


def _refuse_compromised(marks: Marks, current: int | None) -> None:
    """Say why there is nothing to go back to, where a compromised key is why."""
    older = [each for each in marks.numbers if current is None or each < current]
    if older:
        number = number_text(max(older))
        raise StoreError(f"generation {number} is not gone back to: {marks.why(max(older))}", RENEW)


def _refuse_revoked(run: Run, number: int) -> None:
    text = number_text(number)
    found = crl.look(run.seen, number, run.now)
    if found.revoked:
        raise StoreError(f"generation {text} is not gone back to: {found.revoked}", RENEW)
    if found.unknown:
        run.tell(f"warning: whether generation {text} was revoked is not known: {found.unknown}")


def _refuse_what_the_issuer_refuses(seen: Situation, number: int) -> None:
    with receivers.connected(seen.fleet, ()) as backends:
        issuer = backends[0]
        answer = issuer.ask("check", seen.name, number)
    if not answer.ok:
        raise RolloutError(
            f"{issuer.name}, the issuer, refuses generation {number_text(number)}: {answer.why}",
            "nothing was changed; certsync renew --force orders a new one",
        )

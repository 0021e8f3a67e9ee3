"""`certsync rollback`, on the issuer: serve the previous generation everywhere again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certsync.issuer.ca import crl, right_time
from certsync.issuer.compromise import Marks
from certsync.issuer.replicas import receivers, transport
from certsync.issuer.run import Run
from certsync.issuer.situation import Situation
from certsync.issuer.steps import ROLLOUT
from certsync.model.errors import ClockError, FencedError, RolloutError, StoreError, VetoError
from certsync.model.generation import Manifest, before, number_text

RENEW = "to order and roll out a new one: certsync renew --force"


@dataclass(frozen=True)
class Way:
    """From which generation to which one."""

    withdrawn: int
    to: Manifest

    def steps(self) -> list[str]:
        """Return what to do, in words."""
        first = f"withdraw generation {number_text(self.withdrawn)}: no run activates it again"
        number = number_text(self.to.number)
        return [first, *(f"generation {number}: {step.value}" for step in ROLLOUT)]


def way(seen: Situation, now: datetime) -> Way:
    """Return what a rollback would do, without changing anything.

    Raises:
        StoreError: there is nothing to roll back to, or it has expired.
    """
    current = seen.target
    number = before(seen.manifests, seen.barred, current) if current else None
    if current is None or number is None:
        _refuse_compromised(seen.marks, current)
        kept = ", ".join(number_text(each) for each in seen.numbers) or "none"
        raise StoreError(f"there is no generation to roll back to (kept here: {kept})", RENEW)
    found = seen.kept[number].manifest
    if now >= found.not_after:
        raise StoreError(
            f"cannot roll back to generation {number_text(number)}: it expired on "
            f"{found.not_after:%Y-%m-%d %H:%M} UTC",
            RENEW,
        )
    return Way(current, found)


def rollback(run: Run) -> None:
    """Activate the previous generation everywhere and prove it; the current one is withdrawn.

    Raises:
        StoreError: there is nothing to roll back to, or it has expired or was revoked.
        ClockError: this machine's clock is wrong, and the generation is not valid by it.
        RolloutError: the issuer refuses it, or a backend does not serve it; each is named.
        FencedError: a replica refuses the push key; nothing is withdrawn then.
    """
    seen = run.seen
    _refuse_a_wrong_clock(run)
    there = way(seen, run.now)
    _refuse_revoked(run, there.to.number)
    _refuse_what_the_issuer_refuses(seen, there.to.number)
    # The mark comes first: if interrupted, the next run finishes the rollback and does not undo it.
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


def _refuse_a_wrong_clock(run: Run) -> None:
    """Refuse to roll back to what is valid by one of two clocks only; else a wrong one is reported.

    Without the right time, what has expired looks good, and what is good looks expired.
    """
    date = right_time.ask(run.seen.fleet.authority.directory, run.seen.bundle)
    if date is None or not right_time.is_far_off(date, run.now):
        return
    off = right_time.how_far_off(date, run.now)
    found = way(run.seen, date).to
    if found.not_before <= run.now < found.not_after:
        run.tell(f"warning: {off}")
        return
    raise ClockError(
        f"cannot roll back: {off}",
        "set the clock (timedatectl set-ntp true), then run this again; nothing was changed",
    )


def _refuse_compromised(marks: Marks, current: int | None) -> None:
    """Say so if there is nothing to roll back to because of a compromised key."""
    older = [each for each in marks.numbers if current is None or each < current]
    if older:
        number = number_text(max(older))
        raise StoreError(f"cannot roll back to generation {number}: {marks.why(max(older))}", RENEW)


def _refuse_revoked(run: Run, number: int) -> None:
    text = number_text(number)
    found = crl.look(run.seen, number, run.now)
    if found.revoked:
        raise StoreError(f"cannot roll back to generation {text}: {found.revoked}", RENEW)
    if found.unknown:
        run.tell(f"warning: cannot tell whether generation {text} was revoked: {found.unknown}")


def _refuse_what_the_issuer_refuses(seen: Situation, number: int) -> None:
    with receivers.connected(seen.fleet, ()) as backends:
        issuer = backends[0]
        answer = issuer.ask("check", seen.name, number)
    if not answer.ok:
        raise RolloutError(
            f"{issuer.name}, the issuer, refuses generation {number_text(number)}: {answer.why}",
            "nothing was changed; certsync renew --force orders a new one",
        )

"""`certsync compromised`, on the issuer: a backend was removed, and its keys are compromised.

The mark comes first. The rest is done as far as possible, and finished by the hourly run: a
certificate with a new key, its rollout, revoking the old ones, deleting them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certsync.issuer import issued, steps
from certsync.issuer.ca import due, ordering
from certsync.issuer.compromise import CompromisedKey, Mark, Marks
from certsync.issuer.replicas import receivers, transport
from certsync.issuer.replicas.backend import BRING_NEWER, OLDER
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.run import Run, Session
from certsync.issuer.situation import Situation, look_at_all
from certsync.issuer.state import LineageState
from certsync.issuer.steps import ISSUANCE, ROLLOUT, Step
from certsync.issuer.tickets import share
from certsync.model.errors import CertsyncError, FencedError, HostError, RolloutError, StoreError
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict

BY_NOBODY = (
    "cannot be revoked: its key is no longer kept here, and the account that ordered it is not "
    "this issuer's"
)


@dataclass(frozen=True)
class Outlook:
    """What to do about a backend's keys."""

    marks: Marks
    backend: str
    due: bool
    """Whether a certificate with a new key has to be ordered first."""

    marked: Sequence[int]
    """The generations whose keys it may hold."""

    serves_a_key_of_it: bool
    """Whether the live generation uses a key from its mark, even if that is done."""

    shares_tickets: bool
    """Whether the fleet's backends share session ticket keys."""

    @property
    def is_done(self) -> bool:
        """Whether everything is done already."""
        mark = self.marks.of(self.backend)
        return mark is not None and mark.done and not self.serves_a_key_of_it

    @property
    def is_to_be_marked(self) -> bool:
        """Whether a mark has to be written first, or again."""
        mark = self.marks.of(self.backend)
        return mark is None or (mark.done and self.serves_a_key_of_it)

    def steps(self) -> list[str]:
        """Return what to do, in words; empty: nothing."""
        if self.is_done:
            return []
        numbers = ", ".join(number_text(each) for each in self.marked) or "none"
        first = [Step.MARK.value] if self.is_to_be_marked else []
        ordering = [step.value for step in ISSUANCE] if self.due else []
        rest = [f"{step.value}: generations {numbers}" for step in (Step.REVOKE, Step.DISCARD)]
        sharing = [Step.SHARE.value] if self.shares_tickets else []
        return [*first, *ordering, *(step.value for step in ROLLOUT), *sharing, *rest]


def outlook(seen: Situation, known: LineageState, now: datetime, backend: str) -> Outlook:
    """Return what to do about a backend's keys, without changing anything.

    Raises:
        StoreError: the backend is still in the fleet.
    """
    if backend in {each.name for each in seen.fleet.backends}:
        raise StoreError(
            f"{backend} is still in the fleet, so it would get the new key, too",
            f"remove it first: certsync remove-backend FLEET {backend}",
        )
    mark = seen.marks.of(backend)
    serves = mark is not None and _serves_a_key_of(mark, seen)
    again = mark is None or (mark.done and serves)
    marked = [each.number for each in mark.exposed] if mark else []
    if again:
        marked = sorted({*seen.numbers, *(each.number for each in issued.pruned(seen, now))})
    is_due = again or due.outlook(seen, known, now).due is not None
    return Outlook(seen.marks, backend, is_due, marked, serves, seen.fleet.share_tickets)


def _serves_a_key_of(mark: Mark, seen: Situation) -> bool:
    if seen.current is None:
        return False
    found = seen.kept.get(seen.current)
    key_sum = found.manifest.files["privkey.pem"] if found else ""
    own = Marks((mark,))
    return seen.current in own.numbers or key_sum in own.key_sums


def everywhere(session: Session, backend: str) -> None:
    """Do it for each lineage, with all marks written first.

    So wherever this is interrupted, the hourly run finishes all of them.

    Raises:
        CertsyncError: as `compromised`; for several lineages all in one message.
    """
    # The second pass fails at the same point and reports it.
    with contextlib.suppress(CertsyncError):
        session.each(lambda run: _note(run, _outlook(run, backend)))
    session.each(lambda run: compromised(session, run, backend))


def compromised(session: Session, run: Run, backend: str) -> None:
    """Make every backend serve a new key; revoke and delete the old ones.

    What cannot be done now is left to the hourly run.

    Raises:
        StoreError: the backend is still in the fleet.
        RolloutError: a backend does not serve the new key, or may still hold an old one.
        CaError, CaBusyError, FencedError and others: as `issue`; the mark is written by then.
    """
    look = _outlook(run, backend)
    if look.is_done:
        run.tell(f"nothing to do: all keys {backend} may hold are revoked and deleted already")
        return
    _note(run, look)
    try:
        outcome = _new_key(run)
    except FencedError:
        raise
    except CertsyncError:
        # The order may have to wait for the CA; replacing the session ticket keys does not.
        with contextlib.suppress(CertsyncError):
            _share(session, run, {})
        raise
    trouble: CertsyncError | None = outcome.error() if outcome.failures else None
    try:
        _share(session, run, {run.name: outcome.proofs})
    except CertsyncError as error:
        trouble = trouble or error
    finish(run, outcome.proofs)
    if trouble:
        raise trouble


def _outlook(run: Run, backend: str) -> Outlook:
    # State from a newer version must not keep a key from being marked.
    known = run.memory.state_or_nothing.lineage(run.name)
    return outlook(run.seen, known, run.now, backend)


def _share(session: Session, run: Run, proofs: Mapping[str, Sequence[Proof]]) -> None:
    """Replace the whole fleet's session ticket keys; report it under this lineage."""
    share.share(replace(session, tell=run.tell), look_at_all(session.store), proofs)


def _new_key(run: Run) -> Outcome:
    """Make every backend serve a certificate with a new key."""
    number = ordering.issue(run)
    if number is not None:
        run.did(f"ordered generation {number_text(number)}")
    return transport.of(run.seen.fleet).roll_out(run)


def _note(run: Run, look: Outlook) -> None:
    if not look.is_to_be_marked:
        return
    steps.take(Step.MARK, lambda: mark(run, look))
    run.did(f"marked the keys {look.backend} may hold as compromised: {_listed(look.marked)}")


def mark(run: Run, look: Outlook) -> None:
    """Record everything that the backend may hold, and abandon an open order."""
    from certsync.issuer.ca import issuance

    seen = run.seen
    kept = tuple(issued.of_archive(seen, number) for number in seen.numbers)
    exposed = (*issued.pruned(seen, run.now), *kept)
    pending = issuance.pending_key_sum(seen)
    found = Mark(look.backend, run.now, exposed, pending)
    seen.store.mark_compromised(seen.name, look.marks.having(found))
    issuance.forget(seen)
    run.look_again()


def finish(run: Run, proofs: Sequence[Proof]) -> None:
    """Revoke and delete what is marked, once no reachable backend serves it.

    Raises:
        CertsyncError: a certificate could not be revoked, or a backend may still hold a key.
    """
    seen = run.seen
    marks = seen.marks
    if not marks.open or seen.current in {None, 0, *marks.numbers}:
        return
    if not any(each.verdict is Verdict.IN_SYNC for each in proofs):
        return
    for name in waits_for(proofs):
        run.tell(f"the compromised certificates will be revoked once {name} serves another one")
    if waits_for(proofs):
        return
    problems = steps.take(Step.REVOKE, lambda: _revoke(run))
    holding = steps.take(Step.DISCARD, lambda: _discard(run))
    if holding:
        where = "; ".join(f"{name}: {why}" for name, why in holding.items())
        problems.append(RolloutError(f"compromised keys may still be on {where}", _hint(holding)))
    seen = run.look_again()
    if problems:
        raise problems[0]
    # A backend that is back in the fleet must keep its mark, or it would get the next key.
    returned = marks.returned(seen.fleet)
    ended = [each.backend for each in marks.open if each.backend not in returned]
    if not ended:
        return
    seen.store.mark_compromised(run.name, seen.marks.ended(returned))
    run.look_again()
    run.did(f"deleted {_listed(marks.exposed)} everywhere: {' and '.join(ended)} had held them")


def _hint(holding: Mapping[str, str]) -> str:
    if OLDER in holding.values():
        return f"{BRING_NEWER}; the hourly run then continues"
    return "no action needed: the hourly run retries until this succeeds or the host is removed"


def waits_for(proofs: Sequence[Proof]) -> list[str]:
    """Return the reachable backends that serve something else; only they delay the rest."""
    passing = (Verdict.BEHIND, Verdict.WRONG)
    return [each.name for each in proofs if each.verdict in passing]


def _revoke(run: Run) -> list[CertsyncError]:
    """Revoke what is not revoked yet, recording each at once; return what went wrong."""
    problems: list[CertsyncError] = []
    seen, marks = run.seen, run.seen.marks
    for number, exposed in sorted(marks.exposed.items()):
        if not exposed.leaf:
            run.tell(f"warning: generation {number_text(number)} is damaged: it cannot be revoked")
        if not exposed.is_to_be_revoked(run.now):
            continue
        from certsync.issuer.ca import issuance

        try:
            if not issuance.revoke(exposed, seen.fleet, seen.store):
                run.tell(f"warning: generation {number_text(number)} {BY_NOBODY}")
                continue
        except CertsyncError as error:
            text = f"generation {number_text(number)} could not be revoked: {error.message}"
            problems.append(type(error)(text, error.hint))
            run.tell(f"warning: {text}")
            continue
        marks = marks.revoked(number)
        seen.store.mark_compromised(run.name, marks)
        run.did(f"revoked generation {number_text(number)}")
    return problems


def _discard(run: Run) -> dict[str, str]:
    """Delete what is marked on every backend; return where that failed, and why."""
    seen = run.seen
    numbers = sorted(seen.marks.exposed)
    holding = {}
    with receivers.connected(seen.fleet, seen.holders) as backends:
        answers = receivers.each(
            lambda one: [one.ask("discard", seen.name, number) for number in numbers], backends
        )
    for backend, answer in answers:
        if isinstance(answer, HostError):
            holding[backend.name] = answer.why
        elif refused := [each for each in answer if not each.ok]:
            holding[backend.name] = OLDER if refused[0].is_older else refused[0].why
    for name, why in holding.items():
        run.tell(f"{name}: the compromised keys could not be deleted: {why}")
    return holding


def _listed(numbers: Sequence[int] | dict[int, CompromisedKey]) -> str:
    return f"generations {', '.join(number_text(each) for each in sorted(numbers)) or 'none'}"

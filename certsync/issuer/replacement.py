"""`certsync compromised`, on the issuer: a backend was taken out, and its keys are compromised.

The mark comes first; the rest is done here as far as it can be, and finished by the hourly run:
a certificate with a new key, its rollout, the revocation of the old ones, their deletion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.ca import due, ordering
from certsync.issuer.compromise import CompromisedKey, Mark, Marks
from certsync.issuer.replicas import receivers, transport
from certsync.issuer.replicas.receivers import BRING_NEWER, OLDER
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.run import Run, Session
from certsync.issuer.situation import Situation, look_at_all
from certsync.issuer.state import LineageState
from certsync.issuer.steps import ISSUANCE, ROLLOUT, Step
from certsync.issuer.tickets import share
from certsync.model.errors import CertsyncError, FencedError, HostError, RolloutError, StoreError
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict


@dataclass(frozen=True)
class Outlook:
    """What is to be done about a backend's keys."""

    marks: Marks
    backend: str
    due: bool
    """Whether a certificate with another key is to be ordered first."""

    marked: Sequence[int]
    """The generations whose keys it may hold."""

    serves_a_key_of_it: bool
    """Whether what is live has a key that its mark names, whatever that says of being done."""

    shares_tickets: bool
    """Whether the fleet's backends share session ticket keys."""

    @property
    def is_done(self) -> bool:
        """Whether all of it was done before."""
        mark = self.marks.of(self.backend)
        return mark is not None and mark.done and not self.serves_a_key_of_it

    @property
    def is_to_be_marked(self) -> bool:
        """Whether what it may hold is to be written down first, for once or again."""
        mark = self.marks.of(self.backend)
        return mark is None or (mark.done and self.serves_a_key_of_it)

    def steps(self) -> list[str]:
        """Return what is to be done, in words; nothing: all of it was done."""
        if self.is_done:
            return []
        numbers = ", ".join(number_text(each) for each in self.marked) or "none"
        first = [Step.MARK.value] if self.is_to_be_marked else []
        ordering = [step.value for step in ISSUANCE] if self.due else []
        rest = [f"{step.value}: generations {numbers}" for step in (Step.REVOKE, Step.DISCARD)]
        sharing = [Step.SHARE.value] if self.shares_tickets else []
        return [*first, *ordering, *(step.value for step in ROLLOUT), *sharing, *rest]


def outlook(seen: Situation, known: LineageState, now: datetime, backend: str) -> Outlook:
    """Return what is to be done about a backend's keys, changing nothing.

    Raises:
        StoreError: the backend is in the fleet still.
    """
    if backend in {each.name for each in seen.fleet.backends}:
        raise StoreError(
            f"{backend} is in the fleet, so a new key would reach it too",
            f"take it out first: certsync remove-backend FLEET {backend}",
        )
    mark = seen.marks.of(backend)
    serves = mark is not None and _serves_a_key_of(mark, seen)
    again = mark is None or (mark.done and serves)
    marked = seen.numbers if mark is None or again else [each.number for each in mark.exposed]
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
    """Do it for each of the fleet's lineages, with all marks written before anything else.

    So the hourly run finishes all of them, wherever this one is cut off.

    Raises:
        CertsyncError: as `compromised`; of several lineages all of it in one message.
    """
    # What it fails at stops the other pass at the same, and is told there.
    with contextlib.suppress(CertsyncError):
        session.each(lambda run: _note(run, _outlook(run, backend)))
    session.each(lambda run: compromised(session, run, backend))


def compromised(session: Session, run: Run, backend: str) -> None:
    """Have every backend serve another key, and the old ones revoked and deleted.

    What cannot be done now is left to the hourly run.

    Raises:
        StoreError: the backend is in the fleet still.
        RolloutError: a backend does not serve the new one, or may hold an old key still.
        CaError, CaBusyError, FencedError and others: as `issue`; the mark is written by then.
    """
    look = _outlook(run, backend)
    if look.is_done:
        run.tell(f"what {backend} may hold was revoked and deleted before: nothing to do")
        return
    _note(run, look)
    try:
        outcome = _new_key(run)
    except FencedError:
        raise
    except CertsyncError:
        # What is asked of the CA may wait for it. The keys of sessions wait for nobody.
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
    # What a newer version remembers keeps no key from being marked.
    known = run.memory.state_or_nothing.lineage(run.name)
    return outlook(run.seen, known, run.now, backend)


def _share(session: Session, run: Run, proofs: Mapping[str, Sequence[Proof]]) -> None:
    """Replace the session ticket keys of the whole fleet, and tell it as this lineage's."""
    share.share(replace(session, tell=run.tell), look_at_all(session.store), proofs)


def _new_key(run: Run) -> Outcome:
    """Have every backend serve a certificate with another key."""
    number = ordering.issue(run)
    if number is not None:
        run.did(f"ordered generation {number_text(number)}")
    return transport.of(run.seen.fleet).roll_out(run)


def _note(run: Run, look: Outlook) -> None:
    if not look.is_to_be_marked:
        return
    steps.take(Step.MARK, lambda: mark(run, look))
    run.did(f"marked what {look.backend} may hold: {_listed(look.marked)}")


def mark(run: Run, look: Outlook) -> None:
    """Write down all that the backend may hold, and abandon an order whose key is among it."""
    from certsync.issuer.ca import issuance

    seen = run.seen
    exposed = tuple(_exposed(seen, number) for number in seen.numbers)
    pending = issuance.pending_key_sum(seen)
    found = Mark(look.backend, run.now, exposed, pending)
    seen.store.mark_compromised(seen.name, look.marks.having(found))
    issuance.forget(seen)
    run.look_again()


def _exposed(seen: Situation, number: int) -> CompromisedKey:
    if number not in seen.kept:
        return CompromisedKey(number)
    found, files = seen.kept[number].manifest, seen.store.files(seen.name, number)
    return CompromisedKey(
        number,
        found.files["privkey.pem"],
        found.directory,
        found.account,
        found.not_after,
        files["cert.pem"].decode(),
        files["privkey.pem"].decode(),
    )


def finish(run: Run, proofs: Sequence[Proof]) -> None:
    """Revoke and delete what is marked, once it is served nowhere that can be reached.

    Raises:
        CertsyncError: a certificate is not revoked, or a backend may hold a key still.
    """
    seen = run.seen
    marks = seen.marks
    if not marks.open or seen.current in {None, 0, *marks.numbers}:
        return
    if not any(each.verdict is Verdict.IN_SYNC for each in proofs):
        return
    for name in waits_for(proofs):
        run.tell(f"the compromised certificates are revoked once {name} serves another one")
    if waits_for(proofs):
        return
    problems = steps.take(Step.REVOKE, lambda: _revoke(run))
    holding = steps.take(Step.DISCARD, lambda: _discard(run))
    if holding:
        told = "; ".join(f"{name}: {why}" for name, why in holding.items())
        problems.append(RolloutError(f"compromised keys may still be on {told}", _hint(holding)))
    seen = run.look_again()
    if problems:
        raise problems[0]
    # Who is in the fleet again would be taken for a backend like another, and get the next key.
    returned = marks.returned(seen.fleet)
    ended = [each.backend for each in marks.open if each.backend not in returned]
    if not ended:
        return
    seen.store.mark_compromised(run.name, seen.marks.ended(returned))
    run.look_again()
    run.did(f"deleted {_listed(marks.exposed)} everywhere: {' and '.join(ended)} held them")


def _hint(holding: Mapping[str, str]) -> str:
    if OLDER in holding.values():
        return f"{BRING_NEWER}; then the hourly run goes on"
    return "nothing needs to be done: every hourly run tries again until it is out of the fleet"


def waits_for(proofs: Sequence[Proof]) -> list[str]:
    """Return who serves something else and could be reached; the others hold nothing back."""
    passing = (Verdict.BEHIND, Verdict.WRONG)
    return [each.name for each in proofs if each.verdict in passing]


def _revoke(run: Run) -> list[CertsyncError]:
    """Revoke what is not, and return what went wrong; each is noted as soon as it is revoked."""
    problems: list[CertsyncError] = []
    seen, marks = run.seen, run.seen.marks
    for number, exposed in sorted(marks.exposed.items()):
        if not exposed.leaf:
            run.tell(f"warning: generation {number_text(number)} is damaged: it cannot be revoked")
        if not exposed.is_to_be_revoked(run.now):
            continue
        from certsync.issuer.ca import issuance

        try:
            issuance.revoke(exposed, seen.fleet, seen.store)
        except CertsyncError as error:
            told = f"generation {number_text(number)} is not revoked: {error.message}"
            problems.append(type(error)(told, error.hint))
            run.tell(f"warning: {told}")
            continue
        marks = marks.revoked(number)
        seen.store.mark_compromised(run.name, marks)
        run.did(f"revoked generation {number_text(number)}")
    return problems


def _discard(run: Run) -> dict[str, str]:
    """Have every backend delete what is marked, and return who did not, and why."""
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
        run.tell(f"{name}: compromised keys are not deleted: {why}")
    return holding


def _listed(numbers: Sequence[int] | dict[int, CompromisedKey]) -> str:
    return f"generations {', '.join(number_text(each) for each in sorted(numbers)) or 'none'}"

"""`certsync compromised`, on the issuer: a backend was taken out, and its keys are compromised.

The mark comes first; the rest is done here as far as it can be, and finished by the hourly run:
a certificate with a new key, its rollout, the revocation of the old ones, their deletion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.ca import due, ordering
from certsync.issuer.compromise import CompromisedKey, Mark, Marks
from certsync.issuer.lineages import each_lineage
from certsync.issuer.replicas import receivers, replicate
from certsync.issuer.replicas.receivers import BRING_NEWER, OLDER
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.steps import ISSUANCE, ROLLOUT, Step
from certsync.issuer.store import Store
from certsync.issuer.tickets import share
from certsync.model.errors import CertsyncError, FencedError, HostError, RolloutError, StoreError
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text
from certsync.model.proof import Proof, Verdict

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What is to be done about a backend's keys."""

    fleet: Fleet
    marks: Marks
    backend: str
    due: bool
    """Whether a certificate with another key is to be ordered first."""

    marked: Sequence[int]
    """The generations whose keys it may hold."""

    serves_a_key_of_it: bool
    """Whether what is live has a key that its mark names, whatever that says of being done."""

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
        sharing = [Step.SHARE.value] if self.fleet.share_tickets else []
        return [*first, *ordering, *(step.value for step in ROLLOUT), *sharing, *rest]


def outlook(store: Store, now: datetime, backend: str) -> Outlook:
    """Return what is to be done about a backend's keys, changing nothing.

    Raises:
        StoreError: the backend is in the fleet still.
    """
    fleet = store.fleet()
    if backend in {each.name for each in fleet.backends}:
        raise StoreError(
            f"{backend} is in the fleet, so a new key would reach it too",
            f"take it out first: certsync remove-backend FLEET {backend}",
        )
    marks, numbers = store.compromised(fleet.lineage), store.numbers(fleet.lineage)
    mark = marks.of(backend)
    serves = mark is not None and _serves_a_key_of(mark, store, fleet.lineage)
    again = mark is None or (mark.done and serves)
    marked = numbers if mark is None or again else [each.number for each in mark.exposed]
    is_due = again or due.outlook(store, now).due is not None
    return Outlook(fleet, marks, backend, is_due, marked, serves)


def _serves_a_key_of(mark: Mark, store: Store, lineage: str) -> bool:
    live = store.current(lineage)
    if live is None:
        return False
    found = store.manifests(lineage).get(live)
    key_sum = found.files["privkey.pem"] if found else ""
    own = Marks((mark,))
    return live in own.numbers or key_sum in own.key_sums


def everywhere(
    store: Store, now: Callable[[], datetime], tell: Tell, done: list[str], backend: str
) -> None:
    """Do it for each of the fleet's lineages, with all marks written before anything else.

    So the hourly run finishes all of them, wherever this one is cut off.

    Raises:
        CertsyncError: as `compromised`; of several lineages all of it in one message.
    """

    def note(one: Store, _tell: Tell, did: list[str]) -> None:
        look = outlook(one, now(), backend)
        if look.is_to_be_marked:
            _note(look, one, now(), did)

    # What it fails at stops the other pass at the same, and is told there.
    with contextlib.suppress(CertsyncError):
        each_lineage(store, tell, done, note)
    each_lineage(
        store, tell, done, lambda one, say, did: compromised(one, now(), say, did, backend)
    )


def compromised(store: Store, now: datetime, tell: Tell, done: list[str], backend: str) -> None:
    """Have every backend serve another key, and the old ones revoked and deleted.

    ``done`` gets what was changed, in words. What cannot be done now is left to the hourly run.

    Raises:
        StoreError: the backend is in the fleet still.
        RolloutError: a backend does not serve the new one, or may hold an old key still.
        CaError, CaBusyError, FencedError and others: as `issue`; the mark is written by then.
    """
    look = outlook(store, now, backend)
    if look.is_done:
        tell(f"what {backend} may hold was revoked and deleted before: nothing to do")
        return
    if look.is_to_be_marked:
        _note(look, store, now, done)
    try:
        outcome = _new_key(store, now, tell, done)
    except FencedError:
        raise
    except CertsyncError:
        # What is asked of the CA may wait for it. The keys of sessions wait for nobody.
        with contextlib.suppress(CertsyncError):
            share.share(store, now, {}, tell, done)
        raise
    trouble: CertsyncError | None = outcome.error() if outcome.failures else None
    try:
        share.share(store, now, {look.fleet.lineage: outcome.proofs}, tell, done)
    except CertsyncError as error:
        trouble = trouble or error
    finish(store, now, tell, done, outcome.proofs)
    if trouble:
        raise trouble


def _new_key(store: Store, now: datetime, tell: Tell, done: list[str]) -> Outcome:
    """Have every backend serve a certificate with another key."""
    number = ordering.issue(store, now, tell)
    if number is not None:
        done.append(f"ordered generation {number_text(number)}")
    outcome = replicate.roll_out(store, now, tell)
    if outcome.changed:
        names = ", ".join(outcome.changed)
        done.append(f"activated generation {number_text(outcome.number)} on {names}")
    return outcome


def _note(look: Outlook, store: Store, now: datetime, done: list[str]) -> None:
    steps.take(Step.MARK, lambda: mark(look, store, now))
    done.append(f"marked what {look.backend} may hold: {_listed(look.marked)}")


def mark(look: Outlook, store: Store, now: datetime) -> None:
    """Write down all that the backend may hold, and abandon an order whose key is among it."""
    from certsync.issuer.ca import issuance

    lineage = look.fleet.lineage
    exposed = tuple(_exposed(store, lineage, number) for number in store.numbers(lineage))
    pending = issuance.pending_key_sum(look.fleet, store)
    store.mark_compromised(lineage, look.marks.having(Mark(look.backend, now, exposed, pending)))
    issuance.forget(look.fleet, store)


def _exposed(store: Store, lineage: str, number: int) -> CompromisedKey:
    found = store.manifests(lineage).get(number)
    if found is None:
        return CompromisedKey(number)
    files = store.files(lineage, number)
    return CompromisedKey(
        number,
        found.files["privkey.pem"],
        found.directory,
        found.account,
        found.not_after,
        files["cert.pem"].decode(),
        files["privkey.pem"].decode(),
    )


def finish(
    store: Store, now: datetime, tell: Tell, done: list[str], proofs: Sequence[Proof]
) -> None:
    """Revoke and delete what is marked, once it is served nowhere that can be reached.

    Raises:
        CertsyncError: a certificate is not revoked, or a backend may hold a key still.
    """
    fleet = store.fleet()
    marks = store.compromised(fleet.lineage)
    if not marks.open or store.current(fleet.lineage) in {None, 0, *marks.numbers}:
        return
    if not any(each.verdict is Verdict.IN_SYNC for each in proofs):
        return
    for name in waits_for(proofs):
        tell(f"the compromised certificates are revoked once {name} serves another one")
    if waits_for(proofs):
        return
    problems = steps.take(Step.REVOKE, lambda: _revoke(fleet, store, now, tell, done))
    holding = steps.take(Step.DISCARD, lambda: _discard(fleet, store, tell))
    if holding:
        told = "; ".join(f"{name}: {why}" for name, why in holding.items())
        problems.append(RolloutError(f"compromised keys may still be on {told}", _hint(holding)))
    if problems:
        raise problems[0]
    # Who is in the fleet again would be taken for a backend like another, and get the next key.
    returned = marks.returned(fleet)
    ended = [each.backend for each in marks.open if each.backend not in returned]
    if not ended:
        return
    store.mark_compromised(fleet.lineage, store.compromised(fleet.lineage).ended(returned))
    done.append(f"deleted {_listed(marks.exposed)} everywhere: {' and '.join(ended)} held them")


def _hint(holding: Mapping[str, str]) -> str:
    if OLDER in holding.values():
        return f"{BRING_NEWER}; then the hourly run goes on"
    return "nothing needs to be done: every hourly run tries again until it is out of the fleet"


def waits_for(proofs: Sequence[Proof]) -> list[str]:
    """Return who serves something else and could be reached; the others hold nothing back."""
    passing = (Verdict.BEHIND, Verdict.WRONG)
    return [each.name for each in proofs if each.verdict in passing]


def _revoke(
    fleet: Fleet, store: Store, now: datetime, tell: Tell, done: list[str]
) -> list[CertsyncError]:
    """Revoke what is not, and return what went wrong; each is noted as soon as it is revoked."""
    problems: list[CertsyncError] = []
    for number, exposed in sorted(store.compromised(fleet.lineage).exposed.items()):
        if not exposed.leaf:
            tell(f"warning: generation {number_text(number)} is damaged: it cannot be revoked")
        if not exposed.is_to_be_revoked(now):
            continue
        from certsync.issuer.ca import issuance

        try:
            issuance.revoke(exposed, fleet, store)
        except CertsyncError as error:
            told = f"generation {number_text(number)} is not revoked: {error.message}"
            problems.append(type(error)(told, error.hint))
            tell(f"warning: {told}")
            continue
        store.mark_compromised(fleet.lineage, store.compromised(fleet.lineage).revoked(number))
        done.append(f"revoked generation {number_text(number)}")
    return problems


def _discard(fleet: Fleet, store: Store, tell: Tell) -> dict[str, str]:
    """Have every backend delete what is marked, and return who did not, and why."""
    numbers = sorted(store.compromised(fleet.lineage).exposed)
    holding = {}
    with receivers.connected(fleet) as backends:
        answers = receivers.each(
            lambda one: [one.ask("discard", fleet.lineage, number) for number in numbers], backends
        )
    for backend, answer in answers:
        if isinstance(answer, HostError):
            holding[backend.name] = answer.why
        elif refused := [each for each in answer if not each.ok]:
            holding[backend.name] = OLDER if refused[0].is_older else refused[0].why
    for name, why in holding.items():
        tell(f"{name}: compromised keys are not deleted: {why}")
    return holding


def _listed(numbers: Sequence[int] | dict[int, CompromisedKey]) -> str:
    return f"generations {', '.join(number_text(each) for each in sorted(numbers)) or 'none'}"

"""`certsync tickets`, on the issuer: share session ticket keys among all backends, rotate them.

The hourly run uses this, too. Whether a replica shares the keys is checked from outside with a
handshake; an SSH connection is only made to push keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.replicas import admission, outgoing, receivers
from certsync.issuer.replicas.backend import BRING_NEWER, OLDER, TICKETS, Backend
from certsync.issuer.replicas.expected import expected
from certsync.issuer.run import Run, Session, Tell
from certsync.issuer.situation import Situation, look_at_all
from certsync.issuer.steps import Step
from certsync.issuer.tickets import keyring, resumption
from certsync.issuer.tickets.decide import Keys, Note, Plan, Seen, plan
from certsync.model.errors import TicketsError
from certsync.model.fleet import Machine
from certsync.model.proof import Proof, Verdict
from certsync.system import proving

Proofs = Mapping[str, Sequence[Proof]]
"""What each backend serves, by the lineage's name."""

NO_TICKET = "warning: nginx on the issuer issues no session tickets: sharing cannot be verified"
PUT_OFF = "the session ticket keys are rotated once all backends have the current set"
HINT = "the site is still served there, but without resuming TLS sessions; hourly runs retry"


@dataclass
class Sharing:
    """One run's execution of a plan."""

    seen: Seen
    now: datetime
    tell: Tell
    did: Tell
    replicas: Sequence[Backend] = ()
    """The receivers, once connected."""

    unreached: Mapping[str, str] = field(default_factory=dict)
    """Replicas that cannot be reached over SSH, and why."""

    failures: dict[str, str] = field(default_factory=dict)
    """Replicas that could not get the keys, and why."""

    def carry_out(self, wanted: Plan) -> None:
        """Push the existing set to replicas that lack it, then replace or rotate it."""
        keys, note = keyring.read()
        if wanted.replace:
            fresh = Keys(keyring.fresh(), keyring.fresh(), keyring.fresh())
            self.follow(fresh, self.seen.replicas, "replaced all session ticket keys")
            return
        if note is None:
            note = Note(self.now)
            keyring.write(note)
        self.give(keys, note, wanted.push)
        if not wanted.rotate:
            return
        if self.failures and not wanted.despite_unreachable:
            self.tell(PUT_OFF)
            return
        serving = [name for name in self.seen.replicas if name in self.seen.serving]
        self.follow(keys.rotated(keyring.fresh()), serving, "rotated the session ticket keys")

    def follow(self, keys: Keys, names: Sequence[str], what: str) -> None:
        """Make the issuer use another set, and push it."""
        note = Note(self.now, (), tuple(self.seen.compromises))
        keyring.use(keys, note)
        self.did(what)
        self.give(keys, note, [name for name in names if name not in self.failures])

    def give(self, keys: Keys, note: Note, names: Sequence[str]) -> None:
        """Push a set, and record which replicas got it."""
        for name in names:
            if name in self.unreached:
                self.miss(name, self.unreached[name])
        among = [each for each in self.replicas if each.name in {*names} - {*self.unreached}]
        if not among:
            return
        with outgoing.outbox(keys.files(), TICKETS) as outbox:
            found = receivers.each(lambda one: one.give_tickets(outbox), among)
        for backend, error in found:
            if error is not None:
                self.miss(backend.name, error.why)
        given = [backend.name for backend, error in found if error is None]
        if given:
            self.did(f"shared the session ticket keys with {', '.join(given)}")
            keyring.write(replace(note, reached=tuple(sorted({*note.reached, *given}))))

    def miss(self, name: str, why: str) -> None:
        """Record a replica that cannot get the keys."""
        self.failures[name] = why
        self.tell(f"{name}: session ticket keys: {why}")


def outlook(
    looks: Sequence[Situation], now: datetime,
    *, rotate: bool = False, proven: Callable[[], Proofs] | None = None,
) -> list[str]:  # fmt: skip
    """Return what to do, in words; every backend is probed, nothing is changed.

    ``proven`` returns fresh proofs; None: probe the backends now.

    Raises:
        StoreError: the roots cannot be read.
    """
    if not looks[0].fleet.share_tickets:
        return []
    proofs = proven() if proven else _proofs(looks, now)
    seen = _seen(looks, proofs, lambda _: None)
    return plan(keyring.note(), seen, now, interactive=rotate).steps()


def tickets(session: Session, *, rotate: bool = False, missed: Collection[str] = ()) -> None:
    """Share the keys among all backends; ``rotate``: rotate them now, even if not due.

    ``missed`` are backends that the calling run could not reach; their failures are tolerated.

    Raises:
        TicketsError, FencedError, StoreError: see `share`.
    """
    looks = look_at_all(session.store)
    if not looks[0].fleet.share_tickets:
        session.tell("nothing to share: share_tickets is false in the fleet file")
        return
    seen = _seen(looks, _proofs(looks, session.now), session.tell)
    wanted = plan(keyring.note(), seen, session.now, interactive=rotate)
    steps.take(Step.SHARE, lambda: _carry_out(session, looks, seen, wanted, missed))


def share(session: Session, looks: Sequence[Situation], proofs: Proofs) -> None:
    """Do what is due for backends that are proven already.

    A backend that does not serve the right generation is skipped: that is reported already, and it
    gets the keys once it does. ``looks`` are all lineages.

    Raises:
        FencedError: a replica refuses the push key; nothing was changed.
        TicketsError: a backend that serves could not get the keys, or nginx refuses them.
        StoreError: the store cannot be read.
    """
    if not looks[0].fleet.share_tickets:
        return
    seen = _seen(looks, proofs, session.tell)
    wanted = plan(keyring.note(), seen, session.now)
    steps.take(Step.SHARE, lambda: _carry_out(session, looks, seen, wanted, ()))


def _carry_out(
    session: Session, looks: Sequence[Situation], seen: Seen, wanted: Plan, missed: Collection[str]
) -> None:
    if keyring.note() is not None and not wanted.steps():
        return
    first = looks[0]
    fleet = first.fleet
    way = Sharing(seen, session.now, session.tell, session.done.append)
    hosts = [each for each in fleet.replicas if each.name in seen.replicas]
    with receivers.connected(fleet, hosts) as backends:
        way.replicas = [each for each in backends if not each.local]
        standings = receivers.standings(first.name, way.replicas)
        run = Run(first, session.memory, session.now, session.tell, session.done.append)
        left_out = admission.check_not_fenced(run, standings)
        way.unreached = {each.name: each.why for each in standings if not each.reached} | left_out
        way.carry_out(wanted)
    failed = {name: why for name, why in way.failures.items() if name in seen.serving}
    if set(failed) - set(missed):
        raise trouble(failed)


def trouble(failures: Mapping[str, str]) -> TicketsError:
    """Return the error that names the backends that do not share the keys."""
    reasons = "; ".join(f"{name}: {why}" for name, why in sorted(failures.items()))
    hint = BRING_NEWER if OLDER in failures.values() else HINT
    return TicketsError(f"not all backends have the session ticket keys: {reasons}", hint)


# Observing the fleet


def _proofs(looks: Sequence[Situation], now: datetime) -> Proofs:
    return {one.name: proving.prove(one.holders, one.name, expected(one), now) for one in looks}


def _seen(looks: Sequence[Situation], proofs: Proofs, tell: Tell) -> Seen:
    fleet = looks[0].fleet
    returned = {name for one in looks for name in one.marks.returned(fleet)}
    compromises = {
        f"{one.name} {mark.backend} {mark.at.isoformat()}"
        for one in looks
        for mark in one.marks.among
    }
    serving, not_resuming = set[str](), set[str]()
    for lineage, found in proofs.items():
        names = {each.name for each in found if each.verdict is Verdict.IN_SYNC}
        # Backends checked with another lineage's certificate need no second check.
        others = [each for each in fleet.replicas if each.name in names - serving - returned]
        # nginx accepts a ticket only if its first TLS server is the same as where the session
        # began. With unmanaged sites we cannot ensure that: there, a rebooted backend shares again
        # only from the next rotation on.
        comparable = fleet.is_managed
        if fleet.issuer_name in names and comparable:
            not_resuming |= _not_resuming(fleet.issuer, others, lineage, tell)
        serving |= names
    replicas = [each.name for each in fleet.replicas if each.name not in returned]
    return Seen(replicas, serving, not_resuming, sorted(compromises))


def _not_resuming(issuer: Machine, others: Sequence[Machine], lineage: str, tell: Tell) -> set[str]:
    """Return the backends that do not accept the issuer's tickets."""
    if not others:
        return set()
    addresses = [each.private_address for each in others]
    found = resumption.not_resuming(issuer.private_address, addresses, proving.TLS_PORT, lineage)
    if found is None:
        tell(NO_TICKET)
        return set()
    return {each.name for each in others if each.private_address in found}

"""`certsync tickets`, on the issuer: have all backends share session ticket keys, and rotate them.

What the hourly run does of it is this too. A replica is known to share by what is seen from
outside, which costs a handshake; a connection of its own it gets only when keys are pushed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from certsync.issuer import steps
from certsync.issuer.replicas import admission, outgoing, receivers
from certsync.issuer.replicas.expected import expected
from certsync.issuer.replicas.receivers import Backend
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.issuer.tickets import keyring, resumption
from certsync.issuer.tickets.decide import Keys, Note, Plan, Seen, plan
from certsync.model.errors import TicketsError
from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof, Verdict
from certsync.system import proving

Tell = Callable[[str], None]
Proofs = Mapping[str, Sequence[Proof]]
"""What each backend was seen to serve, by the lineage's name."""

NO_TICKET = "warning: nginx on the issuer gives no session tickets: who shares them is not seen"
PUT_OFF = "the session ticket keys are rotated once all backends have those that are there"
HINT = "the site is served there all the same, new TLS sessions only; every hourly run tries again"


@dataclass(frozen=True)
class Outlook:
    """What sharing would do now."""

    steps: list[str]
    """In words; empty: all share the keys."""


@dataclass
class Sharing:
    """One run's way through a plan."""

    seen: Seen
    now: datetime
    tell: Tell
    done: list[str]
    replicas: Sequence[Backend] = ()
    """The receivers, once they are talked to."""

    unreached: Mapping[str, str] = field(default_factory=dict)
    """Who cannot be asked over SSH, and why."""

    failures: dict[str, str] = field(default_factory=dict)
    """Who could not be given the keys, and why."""

    def carry_out(self, wanted: Plan) -> None:
        """Push what is there to whom it lacks, and then make what is to follow it."""
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
        """Have the issuer use another set, and push it."""
        note = Note(self.now, (), tuple(self.seen.compromises))
        keyring.use(keys, note)
        self.done.append(what)
        self.give(keys, note, [name for name in names if name not in self.failures])

    def give(self, keys: Keys, note: Note, names: Sequence[str]) -> None:
        """Push a set, and write down who has got it."""
        for name in names:
            if name in self.unreached:
                self.miss(name, self.unreached[name])
        among = [each for each in self.replicas if each.name in {*names} - {*self.unreached}]
        if not among:
            return
        with outgoing.outbox(keys.files(), receivers.TICKETS) as outbox:
            found = receivers.each(lambda one: one.give_tickets(outbox), among)
        for backend, error in found:
            if error is not None:
                self.miss(backend.name, error.why)
        given = [backend.name for backend, error in found if error is None]
        if given:
            self.done.append(f"shared the session ticket keys with {', '.join(given)}")
            keyring.write(replace(note, reached=tuple(sorted({*note.reached, *given}))))

    def miss(self, name: str, why: str) -> None:
        """Note who cannot be given the keys."""
        self.failures[name] = why
        self.tell(f"{name}: session ticket keys: {why}")


def outlook(
    store: Store, now: datetime, *, rotate: bool = False, proven: Callable[[], Proofs] | None = None
) -> Outlook:
    """Return what is to be done, looking at every backend and changing nothing.

    ``proven`` gives what backends have been seen to serve just now; None: they are looked at.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    store = _whole(store)
    fleet = store.fleet()
    if not fleet.share_tickets:
        return Outlook([])
    proofs = proven() if proven else _proofs(store, fleet, now)
    seen = _seen(store, fleet, proofs, lambda _: None)
    return Outlook(plan(keyring.note(), seen, now, interactive=rotate).steps())


def tickets(
    store: Store, now: datetime, tell: Tell, done: list[str],
    *, rotate: bool = False, missed: Collection[str] = (),
) -> None:  # fmt: skip
    """Have all backends share the keys; ``rotate``: a new one is made now, though none is due.

    ``missed`` are backends that the run which has started this does not reach, and knows of.

    Raises:
        TicketsError, FencedError, StoreError: see `share`.
    """
    store = _whole(store)
    fleet = store.fleet()
    if not fleet.share_tickets:
        tell("share_tickets is false in the fleet file: there is nothing to share")
        return
    run = Sharing(_seen(store, fleet, _proofs(store, fleet, now), tell), now, tell, done)
    wanted = plan(keyring.note(), run.seen, now, interactive=rotate)
    steps.take(Step.SHARE, lambda: _carry_out(store, run, wanted, missed))


def share(store: Store, now: datetime, proofs: Proofs, tell: Tell, done: list[str]) -> None:
    """Do what is due of it, for backends that are proven already.

    ``done`` gets what was changed, in words. Who does not serve what it should is left out: it is
    told already, and given the keys once it does.

    Raises:
        FencedError: a replica refuses the push key; nothing was changed.
        TicketsError: a backend that serves could not be given the keys, or nginx refuses them.
        StoreError: the store cannot be read.
    """
    store = _whole(store)
    fleet = store.fleet()
    if not fleet.share_tickets:
        return
    run = Sharing(_seen(store, fleet, proofs, tell), now, tell, done)
    wanted = plan(keyring.note(), run.seen, now)
    steps.take(Step.SHARE, lambda: _carry_out(store, run, wanted, ()))


def _carry_out(store: Store, run: Sharing, wanted: Plan, missed: Collection[str]) -> None:
    if keyring.note() is not None and not wanted.steps():
        return
    fleet = store.fleet()
    kept = (fleet.issuer, *(each for each in fleet.replicas if each.name in run.seen.replicas))
    with receivers.connected(replace(fleet, backends=kept, serving=())) as backends:
        run.replicas = [each for each in backends if not each.local]
        standings = receivers.standings(fleet.lineage, run.replicas)
        left_out = admission.check_not_fenced(store, fleet, standings, run.now)
        run.unreached = {each.name: each.why for each in standings if not each.reached} | left_out
        run.carry_out(wanted)
    told = {name: why for name, why in run.failures.items() if name in run.seen.serving}
    if set(told) - set(missed):
        raise trouble(told)


def trouble(failures: Mapping[str, str]) -> TicketsError:
    """Return the error that names who does not share the keys."""
    told = "; ".join(f"{name}: {why}" for name, why in sorted(failures.items()))
    hint = receivers.BRING_NEWER if receivers.OLDER in failures.values() else HINT
    return TicketsError(f"not all backends have the session ticket keys: {told}", hint)


def _whole(store: Store) -> Store:
    """Return the store with all lineages: a set of keys is for every one of them."""
    return replace(store, lineage="")


# Looking


def _proofs(store: Store, fleet: Fleet, now: datetime) -> Proofs:
    return {
        each.lineage: proving.prove(each.holders, each, expected(each, store), now)
        for each in fleet.lineages
    }


def _seen(store: Store, fleet: Fleet, proofs: Proofs, tell: Tell) -> Seen:
    marks = {each.lineage: store.compromised(each.lineage) for each in fleet.lineages}
    returned = {name for each in marks.values() for name in each.returned(fleet)}
    compromises = {
        f"{lineage} {mark.backend} {mark.at.isoformat()}"
        for lineage, each in marks.items()
        for mark in each.among
    }
    serving, strange = set[str](), set[str]()
    for lineage, found in proofs.items():
        names = {each.name for each in found if each.verdict is Verdict.IN_SYNC}
        # Who was looked at by another certificate before needs no second look.
        others = [each for each in fleet.replicas if each.name in names - serving - returned]
        # nginx takes a ticket only where its first server for TLS is the same as where the session
        # began, and with sites of people's own that is not ours to say: there a backend that boots
        # shares again from the next rotation on.
        comparable = fleet.is_managed
        if fleet.issuer_name in names and comparable:
            strange |= _strange(fleet.issuer, others, lineage, tell)
        serving |= names
    replicas = [each.name for each in fleet.replicas if each.name not in returned]
    return Seen(replicas, serving, strange, sorted(compromises))


def _strange(issuer: Machine, others: Sequence[Machine], lineage: str, tell: Tell) -> set[str]:
    """Return who does not take a ticket of the issuer's."""
    if not others:
        return set()
    addresses = [each.private_address for each in others]
    found = resumption.not_resuming(issuer.private_address, addresses, proving.TLS_PORT, lineage)
    if found is None:
        tell(NO_TICKET)
        return set()
    return {each.name for each in others if each.private_address in found}

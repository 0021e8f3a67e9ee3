"""A fleet's balancer at a provider, driven from the operator's machine while a run goes on.

The provider's credentials are in this process's environment. They go nowhere else: the run's own
process and its SSH connections get an environment without them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer.gate import Gate, Seen
from certsync.operator.balancer.managed import arrival, decide, providers, wanted
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import NO_LEAVE, Clock, Leave, drive, refusal
from certsync.operator.balancer.managed.errors import ManagedError, RefusedChangeError
from certsync.operator.balancer.managed.port import Ability, Change, Provider, State
from certsync.operator.balancer.managed.wanted import Task
from certsync.operator.balancer.outage import outages

NAME = "load balancer"
"""The provider's balancer in plans, tables and findings."""

CHECKED_SECONDS = 60.0
"""After which a new member has passed a balancer's checks: DigitalOcean's usual ones take 50 s."""

SECONDS = 600.0
"""For one wish: DigitalOcean applies a change in minutes, and says busy until then."""


@dataclass
class Driven:
    """A balancer, and what a run wants of it."""

    task: Task
    provider: Provider
    leave: Leave = NO_LEAVE
    may_change: Callable[[], None] = lambda: None
    """Asked before each change; it raises an error if the fleet lock is lost."""

    tell: Callable[[str], None] = lambda _: None
    """Gets each change in words once the balancer has it."""

    await_challenges: arrival.Await = lambda _fleet, _clock: None
    """Waits until plain HTTP arrives by the balancer; see `arrival`."""

    await_tls: arrival.Await = lambda _fleet, _clock: None
    """Waits until TLS arrives by it."""

    clock: Clock = field(default_factory=lambda: Clock(time.monotonic, time.sleep))

    @property
    def fleet(self) -> Fleet:
        """The fleet that is served."""
        return self.task.fleet

    def look(self, deployed: Fleet | None, joining: Collection[str] = ()) -> State:
        """Before anything is changed, refuse what could not be done in the end.

        ``deployed`` is the deployed fleet; None: there is none. ``joining`` are the backends that
        the run adds to it.

        Raises:
            RefusedChangeError: something there is somebody else's, a backend cannot be a member,
                connections would fail for a while, or a lineage would lose all its members.
            ManagedError: it cannot be read.
        """
        state = self.provider.read()
        before = wanted.before(self.task, state)
        for each in outages(self.fleet, deployed, before):
            raise RefusedChangeError(f"nothing was changed: {each.text}", each.hint)
        here = {host.name: host.private_address for host in self.fleet.serving_all}
        misfits = self.provider.misfits(here)
        if stopping := wanted.stopping(self.task, state, misfits, joining):
            why = "; ".join(f"{name}: {each}" for name, each in stopping.items())
            hint = "are the private addresses in the fleet file right, and in its network?"
            raise RefusedChangeError(f"nothing was changed: {why}", hint)
        last = self._if_all_are_proven(state)
        why, hint = refusal(state, last, self.provider.ability, self.leave)
        if why:
            raise RefusedChangeError(f"nothing was changed: {why}", hint)
        return state

    def release(self) -> None:
        """Stop sending to what the backends are about to remove: see `wanted.outgoing`."""
        self._have(wanted.outgoing)

    def admit_issuer(self) -> None:
        """Have the CA's challenges arrive before a first order: see `wanted.challenged`."""
        self._have(wanted.challenged)
        if wanted.waits_for_order(self.task, self.provider.read()):
            self.await_challenges(self.fleet, self.clock)

    def admit(self, seen: Seen) -> dict[str, str]:
        """Admit what is proven, and set the rule: see `wanted.decided`.

        Return why some were not admitted, by name: one that the provider refuses does not keep the
        others out.
        """
        state = self.provider.read()
        _, wish = wanted.decided(self.task, state, seen)
        if wish is None:
            return {}
        there = self.task.names(state)
        new = {name: address for name, address in wish.members.items() if name not in there}
        left = dict(self.provider.misfits(new))
        wish = wanted.only(wish, wish.members.keys() - left.keys())
        try:
            if both := wanted.overlapping(state, wish):
                self._drive(both)
                self.clock.sleep(CHECKED_SECONDS)
            after = self._drive(wish)
        except ManagedError as error:
            if not error.backend:
                raise
            left |= self._admit_one_by_one(wish, there)
            after = self.provider.read()
        if after != state and wanted.passes(after):
            self.await_tls(self.fleet, self.clock)
        return left

    def _admit_one_by_one(self, wish: Wanted, there: Sequence[str]) -> dict[str, str]:
        """Admit those that the provider takes, and return why it refuses the others, by name.

        Raises:
            ManagedError: it takes none.
        """
        taken = [name for name in wish.members if name in there]
        refused: dict[str, str] = {}
        for name in [each for each in wish.members if each not in there]:
            try:
                self._drive(wanted.only(wish, [*taken, name]))
                taken.append(name)
            except ManagedError as error:
                refused[name] = error.message
                if not error.backend or (not taken and len(refused) == len(wish.members)):
                    raise
        return refused

    def drain(self, name: str) -> None:
        """Have a member get no new connections; where that is impossible, it leaves the pool."""
        self._have(lambda task, state: wanted.without(task, state, name, drained=True))

    def remove(self, name: str) -> None:
        """Have a member leave the pool, and wait until the balancer has heard of it.

        It waits in any case: a run that was interrupted may have removed it a moment ago.
        """
        self._have(lambda task, state: wanted.without(task, state, name, drained=False))
        if unseen := self.provider.ability.unseen_seconds:
            # The backend must serve until then.
            self.clock.sleep(unseen)

    def _have(self, wish: Callable[[Task, State], Wanted | None]) -> None:
        found = wish(self.task, self.provider.read())
        if found is not None:
            self._drive(found)

    def _drive(self, wish: Wanted) -> State:
        guarded = _Guarded(self.provider, self.may_change)
        return drive(guarded, wish, self.tell, self.clock, SECONDS, self.leave)

    # A dry run

    def changes(self, state: State, wish: Wanted | None) -> list[str]:
        """Return what a wish would change, in words."""
        found: Sequence[Change] = []
        if wish is not None:
            found = decide.changes(state, wish, self.provider.ability)
        return decide.words(found, self.task.addresses)

    def foreseen(self, state: State, seen: Seen) -> tuple[Gate, list[str], list[str]]:
        """Return the gate that is decided now, and the changes now and if all get proven."""
        gate, now = wanted.decided(self.task, state, seen)
        return gate, self.changes(state, now), self.changes(state, self._if_all_are_proven(state))

    def _if_all_are_proven(self, state: State) -> Wanted | None:
        names = [host.name for host in self.fleet.backends]
        proven = {name: Proof(name, Verdict.IN_SYNC, "", "", "", "") for name in names}
        proofs = dict.fromkeys([each.name for each in self.fleet.lineages], proven)
        return wanted.decided(self.task, state, Seen(proofs, names))[1]


@dataclass(frozen=True)
class _Guarded:
    """A provider that asks before each change whether it may still be made."""

    provider: Provider
    may_change: Callable[[], None]

    @property
    def ability(self) -> Ability:
        return self.provider.ability

    def read(self) -> State:
        return self.provider.read()

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:
        return self.provider.misfits(backends)

    def apply(self, changes: Sequence[Change]) -> None:
        self.may_change()
        self.provider.apply(changes)


def opened(
    fleet: Fleet,
    leaving: Sequence[Machine] = (),
    leave: Leave = NO_LEAVE,
    environment: Mapping[str, str] = os.environ,
) -> Driven | None:
    """Return a fleet's balancer at a provider; None: it has none that is driven.

    Raises:
        ManagedError: credentials or a package are missing.
    """
    if not fleet.balancer.provider.is_driven:
        return None
    provider = providers.connect(fleet.balancer, environment)
    return Driven(
        Task(fleet, provider.ability, tuple(leaving)),
        provider,
        leave,
        await_challenges=arrival.await_challenges,
        await_tls=arrival.await_tls,
    )

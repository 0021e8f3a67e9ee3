"""A provider's balancer as a part of a run: what happens to it before which phase, and at the end.

pyinfra's run waits for a word before each phase; meanwhile the balancer is changed from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.operator.balancer import foreseen
from certsync.operator.balancer.gate import Seen
from certsync.operator.balancer.managed import wanted
from certsync.operator.balancer.managed.drive import Leave
from certsync.operator.balancer.managed.driven import NAME, Driven, opened
from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import State
from certsync.operator.deployment import operations
from certsync.operator.deployment.leaving import Leaving
from certsync.operator.deployment.operations import Phase
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.request import Options
from certsync.operator.hosts import issuer_side
from certsync.operator.hosts.fleet_lock import Lock
from certsync.programs import text_of
from certsync.system import console, ssh

PLAIN = Options()
BY_THEN = "what is proven by then"


@dataclass
class Attached:
    """A provider's balancer, and what a run does to it."""

    driven: Driven
    before: Mapping[Phase, Callable[[], None]]
    """What to do before a phase."""

    admits: bool = True
    """Whether what is proven at the end is admitted."""

    joining: tuple[str, ...] = ()
    """The backends that the run adds to the fleet."""

    leaving: Leaving | None = None
    steps: list[Step] = field(default_factory=list)
    """What was changed."""

    _phase: str = ""

    @property
    def fleet(self) -> Fleet:
        """The fleet that is served."""
        return self.driven.fleet

    def about_port_80(self, name: str) -> str:
        """Return what is left to do there by hand for a backend; empty: nothing."""
        if self.driven.task.ability.shared_pool:
            return ""
        what = f"take {name} out of it" if self.leaving else f"add {name} to it"
        return f"port 80's pool at the provider is not certsync's: {what}, if you have not yet"

    def begin(self, locks: Sequence[Lock]) -> None:
        """Refuse, before anything is changed, what could not be done in the end.

        Each change from here on needs these locks.

        Raises:
            ManagedError: see `Driven.look`.
        """

        def require_all() -> None:
            for lock in locks:
                lock.require()

        self.driven.may_change, self.driven.tell = require_all, self._told
        self.driven.look(_deployed(self.fleet), self.joining)

    def before_phase(self, name: str) -> None:
        """Do what comes before a phase.

        Raises:
            ManagedError: it cannot be done, so the run must not go on.
            LockLostError: a lock is no longer held.
        """
        self._phase = name
        for phase, act in self.before.items():
            if str(phase) == name:
                act()

    def end(self, outcome: Outcome, only: Collection[str]) -> list[Finding]:
        """Admit what is proven now, and return what went wrong.

        ``only`` are the hosts that the run was for; empty: all.

        Raises:
            LockLostError: a lock is no longer held.
        """
        if not self.admits:
            return []
        self._phase = str(operations.PASSING)
        broken = {*outcome.unreached, *outcome.failed}
        configured = {host.name for host in self.fleet.backends} - broken
        try:
            seen = _seen(self.fleet, configured.intersection(only or configured))
            left = self.driven.admit(seen)
        except ManagedError as error:
            return [Finding(NAME, error.message, error.hint)]
        return [Finding(NAME, f"{name} is not admitted: {why}") for name, why in left.items()]

    def _told(self, words: str) -> None:
        console.tell(f"    {NAME}: {words}")
        self.steps.append(Step(self._phase, NAME, words))

    # A dry run

    def foreseen(self, *, changing: bool) -> Plan:
        """Return what the run would do to it; ``changing``: hosts would be changed before.

        Raises:
            ManagedError: see `Driven.look`.
        """
        state = self.driven.look(_deployed(self.fleet), self.joining)
        if self.leaving:
            return self._removal(self.leaving, state)
        task, changes = self.driven.task, self.driven.changes
        steps = [
            Step(str(phase), NAME, words)
            for phase, wish in (
                (operations.CONFIGURATION, wanted.outgoing(task, state)),
                (operations.CERTIFICATE, wanted.challenged(task, state)),
            )
            for words in changes(state, wish)
        ]
        told = {each.what for each in steps}
        every = [host.name for host in self.fleet.backends]
        gate, now, last = self.driven.foreseen(state, _seen(self.fleet, every))
        for words in dict.fromkeys([*now, *(last if changing else [])]):
            if words not in told:
                depends = BY_THEN if changing else ""
                steps.append(Step(str(operations.PASSING), NAME, words, depends))
        lines = foreseen.pools(NAME, wanted.before(task, state), gate, self.fleet)
        return Plan(tuple(steps), pools=lines)

    def _removal(self, leaving: Leaving, state: State) -> Plan:
        task, name, phase = self.driven.task, leaving.name, str(operations.OUT_OF_THE_POOLS)
        words = self.driven.changes(state, wanted.without(task, state, name, drained=True))
        words += self.driven.changes(state, wanted.without(task, state, name, drained=False))
        return Plan(tuple(Step(phase, NAME, each) for each in dict.fromkeys(words)))


def deploying(
    fleet: Fleet, options: Options = PLAIN, joining: tuple[str, ...] = ()
) -> Attached | None:
    """Return the part of a run that deploys a fleet, or some of it; None: no such balancer.

    ``joining`` are the backends that it adds.

    Raises:
        ManagedError: credentials or a package are missing.
    """
    leave = Leave(adopt=options.adopt_balancer, gap=options.accept_gap)
    driven = opened(fleet, leave=leave)
    if driven is None:
        return None
    before = {
        operations.CONFIGURATION: driven.release,
        operations.CERTIFICATE: driven.admit_issuer,
    }
    return Attached(driven, before, joining=joining)


def removing(leaving: Leaving) -> Attached | None:
    """Return the part of a run that removes a backend; None: no such balancer.

    Raises:
        ManagedError: credentials or a package are missing.
    """
    machines = [leaving.machine] if leaving.machine else []
    driven = opened(leaving.fleet, machines)
    if driven is None:
        return None

    def out_of_the_pool() -> None:
        try:
            driven.drain(leaving.name)
            _wait_for_connections(leaving)
            driven.remove(leaving.name)
        except ManagedError as error:
            if not leaving.options.compromised:
                raise
            # Keys that others may have are replaced whatever a balancer does.
            console.warn(f"{NAME}: {error.message}; {leaving.name} may still get connections")

    before = {operations.OUT_OF_THE_POOLS: out_of_the_pool}
    return Attached(driven, before, admits=False, leaving=leaving)


def _wait_for_connections(leaving: Leaving) -> None:
    """Wait until a leaving backend has no connections, but no longer than the options say.

    A provider may cut open connections of a member that leaves the pool.
    """
    options, machine = leaving.options, leaving.machine
    if machine is None or options.gone or not options.drain_seconds:
        return
    port = leaving.fleet.balancing.proxy_port
    script = f"{text_of('functions.sh')}\nlast_connections {options.drain_seconds} {port}"
    try:
        ssh.on(machine, leaving.fleet.known_hosts, script, seconds=options.drain_seconds + 60)
    except HostError as error:
        console.warn(f"{error.message}: its open connections may be cut")


def _deployed(fleet: Fleet) -> Fleet | None:
    try:
        return issuer_side.rendered(fleet, fleet.issuer)
    except HostError:
        return None


def _seen(fleet: Fleet, configured: Collection[str]) -> Seen:
    """Return what the issuer proves now; silence if it cannot be asked."""
    try:
        return Seen(issuer_side.proven(fleet, fleet.issuer).proofs, configured)
    except HostError:
        return Seen(listening=configured)

"""What a fleet wants of its provider's balancer, by the same gate as for our own. Pure.

The gate decides by proof who takes traffic. A provider's balancer reads no server names, so its
members are those that take every lineage's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from certsync.model.fleet import Fleet, Machine
from certsync.operator.balancer.gate import Gate, Seen, decide, proxy_port
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.port import NO_PORT, Ability, Check, Rule, State

TLS = 443


@dataclass(frozen=True)
class Task:
    """A fleet, what its balancer can do, and who is leaving."""

    fleet: Fleet
    ability: Ability
    leaving: tuple[Machine, ...] = ()
    """Backends that are no longer in the fleet, and maybe still in the pool."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """The private addresses of the fleet's backends and of those that leave, by name."""
        return {each.name: each.private_address for each in (*self.fleet.backends, *self.leaving)}

    def wish(self, rule: Rule | None, members: Collection[str], *draining: str) -> Wanted:
        """Return what the balancer should have: this rule, and these backends by name."""
        known = self.addresses
        return Wanted(
            rule,
            {name: known[name] for name in known if name in members},
            known,
            {name: known[name] for name in known if name in draining},
        )

    def names(self, state: State) -> list[str]:
        """Return the members that are known, drained or not, in the fleet's order."""
        there = {each.address for each in state.members}
        return [name for name, address in self.addresses.items() if address in there]


def passes(state: State) -> bool:
    """Return whether port 443 passes TLS through, unopened; whose rule it is does not matter."""
    return state.rule is not None and state.rule.port != NO_PORT and not state.rule.odd


def before(task: Task, state: State) -> Gate:
    """Return what a balancer has, as the gate sees it.

    While port 443 does not pass TLS through, to be in the pool says nothing about a proof: port 80
    may have the same pool.
    """
    fleet = task.fleet
    if not passes(state) or state.rule is None:
        return Gate(rule=False)
    takes = {each.address for each in state.members if each.takes}
    pool = {name: task.addresses[name] in takes for name in task.names(state)}
    port = state.rule.port if state.rule.proxy else 0
    return Gate(
        rule=True,
        pools={each.name: pool for each in fleet.lineages},
        ports=dict.fromkeys(pool, port),
    )


def decided(task: Task, state: State, seen: Seen) -> tuple[Gate, Wanted | None]:
    """Return what the gate should be, and what the balancer should have; None: leave it alone.

    ``seen.listening`` are the backends that this run has configured: nobody can ask a provider's
    balancer whether it reaches a port.
    """
    fleet = task.fleet
    gate = decide(fleet, before(task, state), seen)
    if not fleet.passthrough:
        proven = decide(fleet, Gate(rule=False), seen) if task.ability.shared_pool else gate
        # Port 80 may have the same pool, and needs it.
        return gate, task.wish(None, {*_taking(fleet, proven), *task.names(state)})
    members = _taking(fleet, gate) if gate.rule else []
    if not members:
        # Nobody is proven. Silence changes nothing, not even somebody else's rule.
        return gate, None
    port = proxy_port(fleet)
    listening = [name for name in members if gate.ports.get(name) == port]
    if port and state.rule and state.rule.proxy and state.rule.port == port and listening:
        # A new member that does not listen there would fail.
        return gate, task.wish(rule(task, port), listening)
    return gate, task.wish(rule(task, port if listening == members else 0), members)


def _taking(fleet: Fleet, gate: Gate) -> list[str]:
    """Return the backends that take the traffic of every lineage."""
    pools = gate.pools_of(fleet)
    return [
        host.name
        for host in fleet.serving_all
        if all(pools.get(each.name, {}).get(host.name) for each in fleet.lineages)
    ]


def rule(task: Task, port: int) -> Rule:
    """Return the rule of port 443; ``port`` is that of the PROXY protocol, 0: it is not sent."""
    to = port or TLS
    balancing = task.fleet.balancing
    if not task.ability.checks_tls:
        check = Check("tcp", to)
    elif task.fleet.has_several:
        # Such a check names no server, which backends with several certificates refuse.
        check = Check("tcp", TLS)
    else:
        check = Check("https", TLS, balancing.health_path)
    return Rule(to, task.ability.proxy[-1] if port else "", check)


def stopping(
    task: Task, state: State, misfits: Mapping[str, str], joining: Collection[str]
) -> Mapping[str, str]:
    """Return why the run must not begin, by backend, of those that cannot be members.

    One that has died must not stop every later deploy. But without the issuer there is no first
    order, and who joins has to fit.
    """
    if len(misfits) == len(task.fleet.serving_all):
        return misfits
    first = task.fleet.issuer_name if state.rule is None else ""
    return {name: why for name, why in misfits.items() if name == first or name in joining}


def overlapping(state: State, wish: Wanted) -> Wanted | None:
    """Return a wish with the present members as well; None: one of them stays.

    New members get nothing before they have passed the balancer's checks, so that at one time all
    members would be down.
    """
    takes = {each.address: each for each in state.members if each.takes}
    present = {name: address for name, address in wish.known.items() if address in takes}
    if not passes(state) or not present or present.keys() & wish.members.keys():
        return None
    if not wish.members or wish.rule is None:
        return None
    return replace(wish, members={**present, **wish.members})


def only(wish: Wanted, names: Collection[str]) -> Wanted:
    """Return a wish with these of its members."""
    members = {name: address for name, address in wish.members.items() if name in names}
    return replace(wish, members=members)


def waits_for_order(task: Task, state: State) -> bool:
    """Return whether a first order needs members first: port 80 has the same, and 443 is closed."""
    return task.ability.shared_pool and state.rule is None


def challenged(task: Task, state: State) -> Wanted | None:
    """Return the wish before a first order: the issuer gets port 80's requests.

    A usual check, by HTTP on port 80, is answered with 404, as it names none of the fleet's names.

    None: it does, or port 443 serves already, or port 80 has a pool of its own.
    """
    if not waits_for_order(task, state):
        return None
    issuer, there, check = task.fleet.issuer_name, task.names(state), rule(task, 0).check
    if issuer in there and state.check in (None, check):
        return None
    return replace(task.wish(None, [*there, issuer]), check=check)


def outgoing(task: Task, state: State) -> Wanted | None:
    """Return the wish before backends lose a site or a port that it sends to; None: they do not.

    A member that no longer serves every lineage leaves, and a PROXY protocol port that changes is
    left for port 443.
    """
    if not passes(state) or state.rule is None:
        return None
    serving = {host.name for host in task.fleet.serving_all}
    gone = [
        host.name
        for host in task.fleet.backends
        if host.name in task.names(state) and host.name not in serving
    ]
    moves = bool(state.rule.proxy) and state.rule.port != task.fleet.balancing.proxy_port
    if not gone and not moves:
        return None
    return _staying(task, state, rule(task, 0) if moves else state.rule, gone)


def without(task: Task, state: State, name: str, *, drained: bool) -> Wanted:
    """Return the wish while a backend leaves: first drained, then gone. All else stays.

    Where a balancer cannot drain, it is gone at once.
    """
    return _staying(task, state, state.rule, [name], *([name] if drained else []))


def _staying(
    task: Task, state: State, rule: Rule | None, gone: Collection[str], *draining: str
) -> Wanted:
    """Return the wish where all members but some stay as they are, drained ones too."""
    takes = {each.address for each in state.members if each.takes}
    staying = [name for name in task.names(state) if name not in gone]
    taking = [name for name in staying if task.addresses[name] in takes]
    return task.wish(rule, taking, *(set(staying) - set(taking)), *draining)

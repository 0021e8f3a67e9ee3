"""What a provider's balancer does with each backend, for `certsync status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.operator.balancer import gate
from certsync.operator.balancer.managed import decide, wanted
from certsync.operator.balancer.managed.driven import NAME, opened
from certsync.operator.balancer.managed.errors import ManagedError, NoCredentialsError
from certsync.operator.balancer.managed.port import Member, State
from certsync.operator.balancer.managed.wanted import Task
from certsync.system.terminal import harmless

FAILING = ("down", "unhealthy", "outofservice", "error")
"""What providers call a member that fails their check, in small letters."""

TAKE_OVER = "put it right there, or take it over: certsync deploy FLEET --adopt-balancer"
NOT_THERE = "not a member"
DRAINED = "drained: `certsync deploy` readmits it, or finish `certsync remove-backend`"


@dataclass(frozen=True)
class Seen:
    """What was seen of a provider's balancer."""

    pools: Mapping[str, str]
    """Each backend's state, as in `haproxy.in_pools`; empty: the balancer was not asked."""

    findings: tuple[Finding, ...] = ()
    without_client_address: tuple[Finding, ...] = ()
    """Which only a deploy changes."""

    notes: tuple[str, ...] = ()
    is_open: bool | None = None
    """Whether port 443 passes TLS through; None: it was not asked."""


NOTHING = Seen({})


def look(fleet: Fleet, joining: Sequence[Machine] = ()) -> Seen:
    """Ask a fleet's balancer at a provider; nothing if it has none that is driven.

    ``joining`` are backends that are to be members: those that cannot be are findings.
    """
    try:
        driven = opened(fleet)
        if driven is None:
            return NOTHING
        seen = told(driven.task, driven.provider.read())
        wrong = driven.provider.misfits({each.name: each.private_address for each in joining})
        more = [Finding(NAME, f"{name}: {why}") for name, why in wrong.items()]
        return replace(seen, findings=(*seen.findings, *more))
    except NoCredentialsError as error:
        return Seen({}, notes=(f"the {NAME} was not asked: {error.message}",))
    except ManagedError as error:
        return Seen({}, (Finding(NAME, error.message, error.hint),))


def look_or_fail(fleet: Fleet, leaving: Sequence[Machine] = ()) -> Seen | None:
    """Ask a fleet's balancer at a provider; None: it has none that is driven.

    ``leaving`` are backends that are no longer in the fleet.

    Raises:
        ManagedError: it cannot be asked.
    """
    driven = opened(fleet, leaving)
    return told(driven.task, driven.provider.read()) if driven else None


def told(task: Task, state: State) -> Seen:
    """Return what a balancer's state says about the backends."""
    fleet, passes = task.fleet, wanted.passes(state)
    members = {each.address: each for each in state.members}
    pools = {
        host.name: _word(members.get(host.private_address), passes=passes)
        for host in (*fleet.serving_all, *task.leaving)
    }
    wrong = decide.objections(state, task.wish(None, ()), adopt=False)
    findings = [Finding(NAME, text) for text in state.obstacles]
    findings += [Finding(NAME, text, TAKE_OVER) for text in wrong]
    if fleet.passthrough and state.rule is not None and not passes and not findings:
        findings.append(Finding(NAME, f"port 443: {'; '.join(state.rule.odd) or 'no member'}"))
    notes = (f"the {NAME} is busy: {harmless(state.busy)}",) if state.busy else ()
    missing = tuple(_without_client_address(task, state)) if passes else ()
    return Seen(pools, tuple(findings), missing, notes, passes)


def _word(member: Member | None, *, passes: bool) -> str:
    if not passes:
        return "rule off"
    if member is None:
        return NOT_THERE
    if not member.takes:
        return DRAINED
    if member.health.lower() in FAILING:
        return f"down: the provider's check says {harmless(member.health)}"
    return "yes"


def _without_client_address(task: Task, state: State) -> list[Finding]:
    port = gate.proxy_port(task.fleet)
    if not port or state.rule is None or (state.rule.proxy and state.rule.port == port):
        return []
    text = (
        "it sends the backends no client addresses: a deploy that reaches every member turns the "
        "PROXY protocol on, or set proxy_protocol = false under [balancing]"
    )
    return [Finding(NAME, text)]

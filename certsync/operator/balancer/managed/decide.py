"""Which changes bring a provider's balancer to what the gate wants. Pure.

Members come before the rule, and leave after it, so that no connection meets an empty pool. There
is one exception: where the pool is a part of the rule, a first member can only come after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from certsync.operator.balancer.managed.port import (
    MIXED_PORTS,
    NO_PORT,
    Ability,
    Admit,
    Change,
    Check,
    Drain,
    DropRule,
    Member,
    Remove,
    Rule,
    SetCheck,
    SetRule,
    State,
)


@dataclass(frozen=True)
class Wanted:
    """What a balancer should have."""

    rule: Rule | None
    members: Mapping[str, str]
    """The backends that take traffic: name to private address."""

    known: Mapping[str, str]
    """All backends of the fleet, and those that are leaving it."""

    draining: Mapping[str, str] = field(default_factory=dict)
    """Those that keep their open connections for now; where the provider cannot, they leave."""

    check: Check | None = None
    """While port 443 is closed: the health check of a pool that all ports share; None: any."""


def objections(state: State, wanted: Wanted, *, adopt: bool) -> list[str]:
    """Return why nothing may be changed, in words; empty: it may.

    ``adopt``: somebody has said that what is there may be taken over.
    """
    if adopt:
        return []
    known = set(wanted.known.values())
    strangers = [each for each in state.members if each.address not in known]
    found = [*state.objections]
    found += [f"{_named(each, {})} is in its pool, but not in the fleet file" for each in strangers]
    return found


def impossible(wanted: Wanted, ability: Ability) -> str:
    """Return why this cannot be had from this provider, in words; empty: it can."""
    if wanted.rule is None:
        return ""
    if not wanted.members:
        return "port 443 would be open without any backend behind it"
    if wanted.rule.proxy and wanted.rule.proxy not in ability.proxy:
        can = f"only {' and '.join(ability.proxy)}" if ability.proxy else "none on port 443 alone"
        return f"it does not send the PROXY protocol {wanted.rule.proxy}: {can}"
    return ""


def changes(state: State, wanted: Wanted, ability: Ability) -> list[Change]:
    """Return what to do, in order; empty: it has everything."""
    rule: list[Change] = []
    if wanted.rule is None and state.rule is not None:
        rule = [DropRule()]
    elif wanted.rule is not None and _differs(state.rule, wanted.rule):
        rule = [SetRule(wanted.rule)]
    if ability.pool_of_rule and wanted.rule is None:
        return rule
    kept = _kept(state, wanted)
    # Nobody is served yet. Where the pool is a part of the rule, members have no other place to
    # come to; and with another PROXY protocol than wanted, their port would refuse it.
    rule_first = ability.pool_of_rule and not _serves(state)
    port = wanted.rule.port if wanted.rule else NO_PORT
    if state.rule and not rule_first:
        port = state.rule.port
    admitted: list[Change] = [
        Admit(name, address, port)
        for name, address in wanted.members.items()
        if address not in kept or not kept[address].takes
    ]
    # The same machine twice: the one that stays serves it already.
    twice: list[Change] = [
        Remove(each)
        for each in state.members
        if each.address in kept and kept[each.address] is not each
    ]
    gone = _gone(state, wanted, kept, ability)
    if rule_first:
        return [*twice, *rule, *admitted, *gone]
    if state.rule is None:
        # Once port 443 opens, nobody else may be behind it.
        return [*_check(state, wanted), *twice, *admitted, *gone, *rule]
    return [*twice, *admitted, *rule, *gone]


def _check(state: State, wanted: Wanted) -> list[Change]:
    """Return what has the members that port 80 needs pass the check."""
    if wanted.rule or not wanted.check or not state.check:
        return []
    return [] if _checks_alike(state.check, wanted.check) else [SetCheck(wanted.check)]


def _gone(
    state: State, wanted: Wanted, kept: Mapping[str, Member], ability: Ability
) -> list[Change]:
    draining = set(wanted.draining.values()) if ability.drains else set()
    leaving = [each for each in state.members if each.address not in kept]
    drained = [Drain(each) for each in leaving if each.address in draining and each.takes]
    return [*drained, *(Remove(each) for each in leaving if each.address not in draining)]


def _kept(state: State, wanted: Wanted) -> dict[str, Member]:
    """Return the member to keep for each wanted address: one that takes traffic, if any does."""
    staying = set(wanted.members.values())
    found: dict[str, Member] = {}
    for each in state.members:
        has = found.get(each.address)
        if each.address in staying and (has is None or (each.takes and not has.takes)):
            found[each.address] = each
    return found


def _serves(state: State) -> bool:
    return bool(
        state.rule and state.rule.port > NO_PORT and any(each.takes for each in state.members)
    )


def _differs(has: Rule | None, wanted: Rule) -> bool:
    if has is None or has.odd or has.proxy != wanted.proxy:
        return True
    return has.port not in (NO_PORT, wanted.port) or not _checks_alike(has.check, wanted.check)


def _checks_alike(has: Check | None, wanted: Check | None) -> bool:
    if wanted is None or has is None:
        return wanted is None
    alike = (has.protocol, has.path) == (wanted.protocol, wanted.path)
    return alike and has.port in (NO_PORT, wanted.port)


def gap(state: State, wanted: Wanted, ability: Ability) -> int:
    """Return how many seconds new connections may fail; 0: none, as far as is known."""
    if state.rule is None or wanted.rule is None or not _serves(state):
        return 0
    moves = (state.rule.port, state.rule.proxy) != (wanted.rule.port, wanted.rule.proxy)
    return ability.gap_seconds if moves or state.rule.odd else 0


def rule_in_words(state: State) -> str:
    """Return what port 443 has, for people."""
    rule = state.rule
    if rule is None:
        return "closed"
    if rule.odd:
        return "; ".join(rule.odd)
    if rule.port == MIXED_PORTS:
        return "to different ports"
    if rule.port == NO_PORT:
        return "to nobody"
    proxy = f", PROXY protocol {rule.proxy}" if rule.proxy else ""
    return f"to port {rule.port}{proxy}"


def words(all_of_them: Sequence[Change], known: Mapping[str, str]) -> list[str]:
    """Return changes in words, for a dry run and for people who watch.

    ``known`` are the fleet's backends: name to private address.
    """
    names = {address: name for name, address in known.items()}
    return [_word(each, names) for each in all_of_them]


def _word(change: Change, names: Mapping[str, str]) -> str:
    if isinstance(change, Admit):
        return f"{change.name}: gets traffic"
    if isinstance(change, Drain):
        return f"{_named(change.member, names)}: gets no new connections"
    if isinstance(change, Remove):
        return f"{_named(change.member, names)}: leaves the pool"
    if isinstance(change, SetCheck):
        return f"the health check becomes {change.check.protocol} on port {change.check.port}"
    if isinstance(change, SetRule):
        proxy = f", PROXY protocol {change.rule.proxy}" if change.rule.proxy else ""
        return f"port 443: TLS is passed through to port {change.rule.port}{proxy}"
    return "port 443: closed"


def _named(member: Member, names: Mapping[str, str]) -> str:
    return names.get(member.address) or member.address or f"machine {member.id}"

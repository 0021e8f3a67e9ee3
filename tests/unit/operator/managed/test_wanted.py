"""What a fleet wishes of its provider's balancer, by what is proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from certsync.model.fleet import Fleet
from certsync.model.options import Balancer, Balancing, Provider
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer.gate import Seen
from certsync.operator.balancer.managed import decide, wanted
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.port import (
    MIXED_PORTS,
    NO_PORT,
    Ability,
    Admit,
    Check,
    Member,
    Rule,
    SetCheck,
    State,
)
from certsync.operator.balancer.managed.wanted import Task
from tests.unit.fake_fleet import NAME, fleet, lineage, machine

SHARED = Ability(shared_pool=True, drains=False, proxy=(), checks_tls=True)
OF_RULE = Ability(shared_pool=False, drains=True, proxy=("v1", "v2"), pool_of_rule=True)
ONE, TWO, THREE = "backend-01", "backend-02", "backend-03"
ALL = (ONE, TWO, THREE)
PROXY = Rule(8443, "v2", Check("tcp", 8443))
PLAIN = Rule(443, "", Check("tcp", 443))
CHECKED = Rule(443, "", Check("https", 443, "/.well-known/certsync-health"))


def managed(provider: Provider = Provider.LINODE, **changes: object) -> Fleet:
    table = Balancer(provider, networks=("203.0.113.0/24",), load_balancer="1")
    return fleet(3, balancers=(), balancer=table, **changes)


def task(ability: Ability = OF_RULE, **changes: object) -> Task:
    provider = Provider.DIGITALOCEAN if ability is SHARED else Provider.LINODE
    return Task(managed(provider, **changes), ability)


def has(rule: Rule | None, *names: str, drained: tuple[str, ...] = ()) -> State:
    return State(rule, tuple(Member(address(each), each, each not in drained) for each in names))


def address(name: str) -> str:
    return f"203.0.113.{10 + int(name[-2:])}"


def proof(name: str, verdict: Verdict) -> Proof:
    return Proof(name, verdict, "", "", "", "")


def seen(
    *in_sync: str, listening: tuple[str, ...] = ALL, of: str = NAME, **others: Verdict
) -> Seen:
    proofs = {each: proof(each, Verdict.IN_SYNC) for each in in_sync}
    for key, verdict in others.items():
        name = key.replace("_", "-")
        proofs[name] = proof(name, verdict)
    return Seen({of: proofs}, listening)


def wish(of: Task, state: State, what: Seen) -> tuple[Rule | None, tuple[str, ...]]:
    _, found = wanted.decided(of, state, what)
    assert found is not None
    return found.rule, tuple(found.members)


# Proof, and nothing else, admits


def test_a_first_rule_has_the_proven_backends_behind_it() -> None:
    assert wish(task(), has(None), seen(ONE, THREE)) == (PROXY, (ONE, THREE))
    assert wish(task(SHARED), has(None, ONE), seen(ONE, TWO)) == (CHECKED, (ONE, TWO))


def test_nothing_is_wished_for_while_nobody_is_proven() -> None:
    foreign = Rule(80, odd=("TLS is opened there",))
    for state in (has(None), has(None, ONE), has(foreign, ONE), has(Rule(NO_PORT))):
        assert wanted.decided(task(), state, Seen())[1] is None


def test_a_member_of_a_shared_pool_is_not_proven_by_being_there() -> None:
    assert wish(task(SHARED), has(None, ONE, TWO), seen(ONE)) == (CHECKED, (ONE,))


def test_silence_changes_nothing() -> None:
    silent = seen(backend_01=Verdict.UNREACHABLE, backend_02=Verdict.UNREACHABLE)
    for what in (Seen(), silent):
        assert wish(task(), has(PROXY, ONE, TWO), what) == (PROXY, (ONE, TWO))


def test_silence_about_members_on_different_ports_removes_none() -> None:
    mixed = replace(PROXY, port=MIXED_PORTS)
    _, members = wish(task(), has(mixed, ONE, TWO), seen(ONE, backend_02=Verdict.UNREACHABLE))
    assert members == (ONE, TWO)


@pytest.mark.parametrize("verdict", [Verdict.WRONG])
def test_a_member_that_clients_would_reject_leaves(verdict: Verdict) -> None:
    what = seen(ONE, backend_02=verdict, backend_03=verdict)
    assert wish(task(), has(PROXY, ONE, TWO), what) == (PROXY, (ONE,))


def test_all_stay_when_all_are_wrong() -> None:
    what = seen(backend_01=Verdict.WRONG, backend_02=Verdict.WRONG)
    assert wish(task(), has(PROXY, ONE, TWO), what) == (PROXY, (ONE, TWO))


def test_a_drained_member_is_readmitted_once_it_is_proven() -> None:
    state = has(PROXY, ONE, TWO, drained=(TWO,))
    assert wish(task(), state, seen(ONE, TWO)) == (PROXY, (ONE, TWO))
    assert wish(task(), state, seen(ONE)) == (PROXY, (ONE,))


def test_somebody_elses_rule_is_replaced_only_by_proof() -> None:
    foreign = Rule(443, odd=("TLS is opened there",))
    assert wish(task(), has(foreign, ONE), seen(ONE, TWO)) == (PROXY, (ONE, TWO))


# Several lineages: a provider's balancer reads no names


def test_a_member_serves_every_lineage() -> None:
    several = (lineage(), lineage("b.example.com", serving=(ONE, TWO)))
    of = task(lineages=several)
    proofs = {
        NAME: {each: proof(each, Verdict.IN_SYNC) for each in ALL},
        "b.example.com": {ONE: proof(ONE, Verdict.IN_SYNC), TWO: proof(TWO, Verdict.UNREACHABLE)},
    }
    assert wish(of, has(None), Seen(proofs, ALL)) == (PROXY, (ONE,))


def test_a_check_names_no_server_so_several_lineages_are_checked_by_tcp() -> None:
    of = task(SHARED, lineages=(lineage(), lineage("b.example.com")))
    assert wanted.rule(of, 0).check == Check("tcp", 443)


# The PROXY protocol


def test_the_proxy_protocol_waits_for_every_member() -> None:
    what = seen(ONE, TWO, listening=(ONE,))
    assert wish(task(), has(PLAIN, ONE, TWO), what) == (PLAIN, (ONE, TWO))
    assert wish(task(), has(PLAIN, ONE, TWO), seen(ONE, TWO)) == (PROXY, (ONE, TWO))


def test_a_new_member_that_was_not_configured_waits_while_others_get_the_proxy_protocol() -> None:
    what = seen(ONE, TWO, listening=(ONE,))
    assert wish(task(), has(PROXY, ONE), what) == (PROXY, (ONE,))


def test_the_proxy_protocol_is_turned_off() -> None:
    off = task(balancing=Balancing(proxy_protocol=False))
    assert wish(off, has(PROXY, ONE, TWO), Seen()) == (PLAIN, (ONE, TWO))


def test_a_balancer_that_cannot_send_it_goes_to_port_443() -> None:
    assert wish(task(SHARED), has(None), seen(ONE))[0] == CHECKED


def test_present_members_stay_until_new_ones_were_checked() -> None:
    _, found = wanted.decided(task(), has(PROXY, ONE), seen(TWO, backend_01=Verdict.WRONG))
    assert found is not None
    assert [*found.members] == [TWO]
    both = wanted.overlapping(has(PROXY, ONE), found)
    assert both is not None
    assert ([*both.members], both.rule) == ([ONE, TWO], PROXY)
    assert wanted.overlapping(has(PROXY, ONE, TWO), found) is None
    assert wanted.overlapping(has(None), found) is None


# Passthrough off


def test_passthrough_off_closes_port_443_and_keeps_the_pool_that_port_80_shares() -> None:
    of = task(SHARED, passthrough=False)
    assert wish(of, has(CHECKED, ONE), seen(ONE, TWO)) == (None, (ONE, TWO))
    assert wish(task(passthrough=False), has(PROXY, ONE), seen(ONE, TWO))[0] is None


# Before a first order


def test_the_issuer_alone_gets_the_challenges_of_a_shared_pool() -> None:
    found = wanted.challenged(task(SHARED), has(None))
    assert found is not None
    assert (found.rule, [*found.members]) == (None, [ONE])


def test_who_is_in_the_pool_before_a_first_order_stays() -> None:
    found = wanted.challenged(task(SHARED), has(None, TWO))
    assert found is not None
    assert [*found.members] == [ONE, TWO]


def test_a_check_that_the_issuer_would_not_pass_is_changed_before_the_first_order() -> None:
    usual = replace(has(None, ONE), check=Check("http", 80, "/"))
    again = wanted.challenged(task(SHARED), usual)
    assert again is not None
    assert again.check == CHECKED.check
    made = decide.changes(usual, again, SHARED)
    assert [type(each) for each in made] == [SetCheck]
    assert decide.words(made, {}) == ["the health check becomes https on port 443"]
    assert wanted.challenged(task(SHARED), replace(usual, check=CHECKED.check)) is None
    first = wanted.challenged(task(SHARED), replace(has(None), check=Check("http", 80, "/")))
    assert first is not None
    found = decide.changes(replace(has(None), check=Check("http", 80, "/")), first, SHARED)
    assert [type(each) for each in found] == [SetCheck, Admit]


@pytest.mark.parametrize(
    ("ability", "state"),
    [(SHARED, has(None, ONE)), (SHARED, has(CHECKED, TWO)), (OF_RULE, has(None))],
    ids=["it gets them", "port 443 serves", "port 80 has its own pool"],
)
def test_nothing_is_needed_for_the_challenges(ability: Ability, state: State) -> None:
    assert wanted.challenged(task(ability), state) is None


# Before backends lose what it sends to


def outgoing(of: Task, state: State) -> Mapping[str, str]:
    found = wanted.outgoing(of, state)
    assert found is not None
    return found.members


def test_a_backend_that_loses_a_lineage_leaves_first() -> None:
    of = task(lineages=(lineage(), lineage("b.example.com", serving=(ONE,))))
    assert [*outgoing(of, has(PROXY, ONE, TWO))] == [ONE]


def test_a_port_that_changes_is_left_for_443_first() -> None:
    of = task(balancing=Balancing(proxy_port=9443))
    found = wanted.outgoing(of, has(PROXY, ONE, TWO))
    assert found is not None
    assert (found.rule, [*found.members]) == (PLAIN, [ONE, TWO])


def test_nothing_is_left_when_nothing_is_lost() -> None:
    off = task(balancing=Balancing(proxy_protocol=False))
    for of in (task(), off):
        assert wanted.outgoing(of, has(PROXY, ONE, TWO)) is None
    assert wanted.outgoing(task(), has(None)) is None


# A backend that leaves


def leaving() -> Task:
    return Task(replace(managed(), backends=managed().backends[:2]), OF_RULE, (machine(THREE, 13),))


def of(found: Wanted) -> tuple[list[str], list[str]]:
    return [*found.members], [*found.draining]


def test_it_is_drained_and_then_gone_and_nobody_else_moves() -> None:
    state = has(PROXY, ONE, TWO, THREE, drained=(TWO,))
    drained = wanted.without(leaving(), state, THREE, drained=True)
    assert (of(drained), drained.rule) == (([ONE], [TWO, THREE]), PROXY)
    gone = wanted.without(leaving(), state, THREE, drained=False)
    assert of(gone) == ([ONE], [TWO])


def test_it_leaves_a_closed_balancer_closed() -> None:
    assert wanted.without(leaving(), has(None, ONE, THREE), THREE, drained=False).rule is None


def test_what_is_wished_for_again_is_no_change() -> None:
    state = has(PROXY, ONE, TWO)
    _, found = wanted.decided(task(), state, seen(ONE, TWO, backend_03=Verdict.UNREACHABLE))
    assert found is not None
    assert decide.changes(state, found, OF_RULE) == []

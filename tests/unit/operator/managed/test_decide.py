"""What a provider's balancer has, and what is wanted, give the changes in between."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from certsync.operator.balancer.managed.decide import (
    Wanted,
    changes,
    gap,
    impossible,
    objections,
    words,
)
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
    SetRule,
    State,
)

FLEET = {"web-1": "10.0.0.1", "web-2": "10.0.0.2", "web-3": "10.0.0.3"}
SHARED = Ability(shared_pool=True, drains=False, proxy=(), gap_seconds=0)
OF_RULE = Ability(shared_pool=False, drains=True, proxy=("v1", "v2"), pool_of_rule=True)
GAP = Ability(shared_pool=True, drains=False, proxy=("v1",), gap_seconds=5)
PLAIN, PROXY = Rule(443), Rule(8443, "v2")


def member(number: int, *, takes: bool = True, id: str = "") -> Member:
    return Member(f"10.0.0.{number}", id or f"node-{number}", takes)


def wanted(rule: Rule | None, *numbers: int, draining: Mapping[str, str] | None = None) -> Wanted:
    members = {f"web-{each}": f"10.0.0.{each}" for each in numbers}
    return Wanted(rule, members, FLEET, draining or {})


ONE, TWO = member(1), member(2)


@pytest.mark.parametrize(
    ("state", "wish", "ability", "to_do"),
    [
        pytest.param(State(PLAIN, (ONE,)), wanted(PLAIN, 1), SHARED, [], id="nothing"),
        pytest.param(
            State(None), wanted(PLAIN, 1, 2), SHARED,
            [Admit("web-1", "10.0.0.1", 443), Admit("web-2", "10.0.0.2", 443), SetRule(PLAIN)],
            id="members before the rule",
        ),
        pytest.param(
            State(None), wanted(PROXY, 1), OF_RULE,
            [SetRule(PROXY), Admit("web-1", "10.0.0.1", 8443)], id="the pool is of the rule",
        ),
        pytest.param(
            State(Rule(NO_PORT, "v2")), wanted(PROXY, 1), OF_RULE,
            [Admit("web-1", "10.0.0.1", 8443)], id="the rule is there and its pool is empty",
        ),
        pytest.param(
            State(Rule(NO_PORT)), wanted(PROXY, 1), OF_RULE,
            [SetRule(PROXY), Admit("web-1", "10.0.0.1", 8443)],
            id="PROXY protocol before the first member on its port",
        ),
        pytest.param(
            State(PLAIN, (ONE,)), wanted(PROXY, 1, 2), OF_RULE,
            [Admit("web-2", "10.0.0.2", 443), SetRule(PROXY)], id="a member comes as things are",
        ),
        pytest.param(
            State(Rule(MIXED_PORTS), (ONE, TWO)), wanted(PLAIN, 1, 2, 3), OF_RULE,
            [SetRule(PLAIN), Admit("web-3", "10.0.0.3", 443)], id="mixed ports first",
        ),
        pytest.param(
            State(None), wanted(None, 1), SHARED, [Admit("web-1", "10.0.0.1")],
            id="a shared pool without the rule",
        ),
        pytest.param(State(None), wanted(None, 1), OF_RULE, [], id="no rule, so no pool"),
        pytest.param(
            State(PLAIN, (ONE, TWO)), wanted(None, 1), OF_RULE, [DropRule()],
            id="the pool goes with the rule",
        ),
        pytest.param(
            State(PLAIN, (ONE, TWO)), wanted(None, 1), SHARED, [DropRule(), Remove(TWO)],
            id="the rule goes before its members",
        ),
        pytest.param(
            State(PLAIN, (ONE,)), wanted(PLAIN, 2), SHARED,
            [Admit("web-2", "10.0.0.2", 443), Remove(ONE)], id="one comes, then the other goes",
        ),
        pytest.param(
            State(PLAIN, (ONE, TWO)), wanted(PLAIN, 1, draining={"web-2": "10.0.0.2"}), OF_RULE,
            [Drain(TWO)], id="drained",
        ),
        pytest.param(
            State(PLAIN, (ONE, member(2, takes=False))),
            wanted(PLAIN, 1, draining={"web-2": "10.0.0.2"}), OF_RULE, [], id="is drained",
        ),
        pytest.param(
            State(PLAIN, (ONE, TWO)), wanted(PLAIN, 1, draining={"web-2": "10.0.0.2"}), SHARED,
            [Remove(TWO)], id="no draining there",
        ),
        pytest.param(
            State(PLAIN, (ONE, member(2, takes=False))), wanted(PLAIN, 1, 2), OF_RULE,
            [Admit("web-2", "10.0.0.2", 443)], id="admitted again",
        ),
        pytest.param(
            State(PLAIN, (member(1, takes=False, id="old"), ONE, member(1, id="twice"))),
            wanted(PROXY, 1, 2), OF_RULE,
            [Remove(member(1, takes=False, id="old")), Remove(member(1, id="twice")),
             Admit("web-2", "10.0.0.2", 443), SetRule(PROXY)],
            id="an address that is there three times",
        ),
        pytest.param(
            State(PLAIN, (ONE, Member("", "droplet-9"))), wanted(PLAIN, 1), SHARED,
            [Remove(Member("", "droplet-9"))], id="a machine without an address",
        ),
        pytest.param(
            State(PLAIN, (ONE,)), wanted(Rule(443, check=Check("tcp", 443)), 1), SHARED,
            [SetRule(Rule(443, check=Check("tcp", 443)))], id="another check",
        ),
        pytest.param(
            State(Rule(443, check=Check("tcp", 80)), (ONE,)),
            wanted(Rule(443, check=Check("tcp", 443)), 1), SHARED,
            [SetRule(Rule(443, check=Check("tcp", 443)))], id="a check of another port",
        ),
        pytest.param(
            State(Rule(443, check=Check("tcp", 443)), (ONE,)), wanted(PLAIN, 1), SHARED, [],
            id="any check will do",
        ),
        pytest.param(
            State(Rule(443, check=Check("tcp", NO_PORT)), (ONE,)),
            wanted(Rule(443, check=Check("tcp", 443)), 1), OF_RULE, [],
            id="the check's port is no choice",
        ),
        pytest.param(
            State(Rule(443, odd=("sticky",)), (ONE,)), wanted(PLAIN, 1), OF_RULE, [SetRule(PLAIN)],
            id="put right",
        ),
    ],
)  # fmt: skip
def test_the_changes_and_their_order(
    state: State, wish: Wanted, ability: Ability, to_do: list[Change]
) -> None:
    assert changes(state, wish, ability) == to_do


def test_strangers_and_what_the_provider_says_speak_against_it() -> None:
    state = State(
        PLAIN, (ONE, member(9), Member("", "droplet-9")), objections=("port 443 opens TLS",)
    )
    assert objections(state, wanted(PLAIN, 1), adopt=False) == [
        "port 443 opens TLS",
        "10.0.0.9 is in its pool, but not in the fleet file",
        "machine droplet-9 is in its pool, but not in the fleet file",
    ]
    assert objections(state, wanted(PLAIN, 1), adopt=True) == []
    assert objections(State(PLAIN, (ONE, TWO)), wanted(PLAIN, 1), adopt=False) == []


@pytest.mark.parametrize(
    ("wish", "ability", "why"),
    [
        (wanted(PROXY, 1), OF_RULE, ""),
        (wanted(None), OF_RULE, ""),
        (wanted(PLAIN), OF_RULE, "port 443 would be open without any backend behind it"),
        (wanted(PROXY, 1), GAP, "it does not send the PROXY protocol v2: only v1"),
        (wanted(PROXY, 1), SHARED,
         "it does not send the PROXY protocol v2: none on port 443 alone"),
    ],
)  # fmt: skip
def test_what_a_provider_cannot_do_is_said(wish: Wanted, ability: Ability, why: str) -> None:
    assert impossible(wish, ability) == why


@pytest.mark.parametrize(
    ("state", "wish", "seconds"),
    [
        (State(PLAIN, (ONE,)), wanted(Rule(8443, "v1"), 1), 5),
        (State(PLAIN, (ONE,)), wanted(PLAIN, 1, 2), 0),
        (State(PLAIN, (ONE,)), wanted(Rule(443, check=Check("tcp", 443)), 1), 0),
        (State(PLAIN, (ONE,)), wanted(None), 0),
        (State(None, (ONE,)), wanted(PLAIN, 1), 0),
        (State(PLAIN), wanted(Rule(8443, "v1"), 1), 0),
        # What is put right may need another listener, too.
        (State(Rule(443, odd=("TLS is opened there",)), (ONE,)), wanted(PLAIN, 1), 5),
    ],
)  # fmt: skip
def test_a_gap_is_where_a_served_rule_moves(state: State, wish: Wanted, seconds: int) -> None:
    assert gap(state, wish, GAP) == seconds
    assert gap(state, wish, OF_RULE) == 0


def test_changes_in_words() -> None:
    assert words([
        Admit("web-1", "10.0.0.1", 443), Drain(ONE), Remove(Member("", "7")), SetRule(PROXY),
        SetRule(PLAIN), DropRule(),
    ], FLEET) == [
        "web-1: gets traffic",
        "web-1: gets no new connections",
        "machine 7: leaves the pool",
        "port 443: TLS is passed through to port 8443, PROXY protocol v2",
        "port 443: TLS is passed through to port 443",
        "port 443: closed",
    ]  # fmt: skip

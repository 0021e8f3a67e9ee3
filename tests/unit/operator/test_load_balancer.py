"""What `certsync status` and `certsync rules` say of a provider's balancer."""

from __future__ import annotations

import pytest

from certsync.model.options import Balancer, Balancing, Provider
from certsync.operator.balancer.managed.port import Ability, Member, Rule, State
from certsync.operator.balancer.managed.wanted import Task
from certsync.operator.balancer.provider_rules import Standing
from certsync.operator.balancer.rules import Difference, Shown
from certsync.operator.watching import load_balancer
from certsync.operator.watching.load_balancer import told
from tests.unit.fake_fleet import fleet, machine

ABILITY = Ability(shared_pool=False, drains=True, proxy=("v2",))
TABLE = Balancer(Provider.LINODE, networks=("203.0.113.0/24",), load_balancer="7")
RULE = Rule(8443, "v2")
ONE, TWO = "203.0.113.11", "203.0.113.12"


def task(**changes: object) -> Task:
    return Task(fleet(2, balancers=(), balancer=TABLE, **changes), ABILITY)


def state(rule: Rule | None, *members: Member, **more: tuple[str, ...]) -> State:
    return State(rule, members, **more)  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (state(RULE, Member(ONE, "1", health="UP"), Member(TWO, "2")), ("yes", "yes")),
        (state(RULE, Member(ONE, "1", health="unknown")), ("yes", "not a member")),
        (state(RULE, Member(ONE, "1", health="DOWN")),
         ("down: the provider's check says DOWN", "not a member")),
        (state(RULE, Member(ONE, "1", takes=False), Member(TWO, "2", health="unhealthy")),
         (load_balancer.DRAINED, "down: the provider's check says unhealthy")),
        (state(None, Member(ONE, "1")), ("rule off", "rule off")),
    ],
)  # fmt: skip
def test_each_backends_state_in_the_pool(seen: State, words: tuple[str, str]) -> None:
    assert tuple(told(task(), seen).pools.values()) == words


def test_a_healthy_balancer_has_no_findings() -> None:
    seen = told(task(), state(RULE, Member(ONE, "1"), Member(TWO, "2")))
    assert (seen.findings, seen.without_client_address, seen.notes) == ((), (), ())
    assert seen.is_open


def test_somebody_elses_members_and_rules_are_findings_with_a_way_out() -> None:
    found = told(task(), state(RULE, Member(ONE, "1"), Member("10.9.9.9", "9"))).findings
    assert [str(each) for each in found] == [
        "load balancer: 10.9.9.9 is in its pool, but not in the fleet file"
    ]
    assert "certsync deploy FLEET --adopt-balancer" in found[0].hint
    [other] = told(task(), state(None, obstacles=("a cluster drives it",))).findings
    assert other.text == "a cluster drives it"


def test_a_rule_that_serves_nobody_is_a_finding_while_passthrough_is_on() -> None:
    odd = Rule(443, odd=("a client stays with one node",))
    assert told(task(), state(odd, Member(ONE, "1"))).findings[0].text == (
        "port 443: a client stays with one node"
    )
    assert told(task(passthrough=False), state(odd)).findings == ()


def test_members_that_do_not_get_client_addresses_are_a_finding_of_their_own() -> None:
    plain = state(Rule(443), Member(ONE, "1"))
    [found] = told(task(), plain).without_client_address
    assert "turns the PROXY protocol on" in found.text
    assert told(task(balancing=Balancing(proxy_protocol=False)), plain).findings == ()


def test_a_busy_balancer_is_a_note() -> None:
    seen = told(task(), State(RULE, (Member(ONE, "1"),), busy="it is updating"))
    assert seen.notes == ("the load balancer is busy: it is updating",)


def test_a_leaving_backend_is_seen_as_well() -> None:
    of = Task(fleet(1, balancers=(), balancer=TABLE), ABILITY, (machine("backend-02", 12),))
    assert told(of, state(RULE, Member(ONE, "1"), Member(TWO, "2"))).pools["backend-02"] == "yes"


def test_without_a_token_the_balancer_is_not_asked_and_that_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LINODE_TOKEN", raising=False)
    seen = load_balancer.look(task().fleet)
    assert seen.notes == ("the load balancer was not asked: LINODE_TOKEN is not set",)
    assert (seen.pools, seen.findings) == ({}, ())


def test_a_fleet_without_such_a_balancer_is_told_nothing() -> None:
    assert load_balancer.look(fleet(2)) == load_balancer.NOTHING


def test_rules_of_a_driven_balancer_that_was_not_asked_print_no_sheet() -> None:
    shown = Shown(task().fleet, Standing((), {"backend-01": "not proven"}, "not asked"))
    assert shown.text().splitlines()[0] == "linode 7: not asked"
    assert "Round Robin" not in shown.text()


def test_rules_show_the_difference_of_a_driven_balancer() -> None:
    made = Difference(
        "linode 7", "to port 443", {"backend-01": "yes", "backend-02": "not a member"},
        ("backend-02: gets traffic",), ("10.9.9.9 is in its pool",),
    )  # fmt: skip
    shown = Shown(task().fleet, Standing(("backend-01",), {}), made)
    assert shown.text().splitlines() == [
        "linode 7",
        "    port 443: to port 443",
        "    backend-01: yes",
        "    backend-02: not a member",
        "must not be changed: 10.9.9.9 is in its pool",
        "the next deploy would change: backend-02: gets traffic",
        "the rule for port 443 may be on now, for backend-01",
    ]
    assert shown.to_json()["driven"]["changes"] == ("backend-02: gets traffic",)

"""The gate on a balancer: who is let in, by whose word, and who is asked for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pyinfra.context import ctx_host

from certsync.model.fleet import Fleet
from certsync.model.options import Balancing
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate
from certsync.operator.hosts.survey import Entry, Survey, Unit
from certsync.operator.rendering import templates
from deploy import passthrough
from deploy.balancer import CONFIGURATION
from deploy.step import Step
from tests.unit.fake_fleet import NAME, fleet
from tests.unit.fake_run import Run

FLEET = fleet()
UNTOLD = replace(FLEET, balancing=Balancing(proxy_protocol=False))
ALL = ("backend-01", "backend-02", "backend-03")
RUNS = Unit("active", "enabled", is_outdated=False)


def proving(*names: str) -> dict[str, Any]:
    """Return what an issuer answers that has seen these backends serve the certificate."""
    proofs = [Proof(name, Verdict.IN_SYNC, "0001", "", "", "").to_json() for name in names]
    return {"backend-01": {"outlook prove": {"prove": {"proofs": proofs}}}}


def balancer(made: Fleet, *inside: str, port: int = 0, states: tuple[str, ...] = ()) -> Survey:
    """Return what a balancer is like that sends to these backends."""
    members = {name: name in inside for name in ALL}
    has = Gate(bool(inside), {NAME: members}, members, dict.fromkeys(ALL, port))
    text = templates.haproxy(made, made.balancers[0], has)
    entries = {CONFIGURATION: Entry("f", text=text)}
    return Survey(entries=entries, units={"haproxy.service": RUNS}, server_states=states)


def gated(run: Run, made: Fleet, seen: Survey) -> tuple[Step, Step]:
    with ctx_host.use(run.host("balancer")):
        plan = passthrough.gate(made, made.balancers[0], run.host("backend-01"), seen)
        passing, ready = plan
    return passing, ready


def taking(made: Step) -> tuple[str, ...]:
    return gate.read(made.text).taking


def test_who_has_been_proven_is_let_in_and_port_443_is_opened_for_them() -> None:
    run = Run(UNTOLD, says=proving("backend-01", "backend-03"))
    passing, ready = gated(run, UNTOLD, balancer(UNTOLD))
    assert taking(passing) == ("backend-01", "backend-03")
    # Whoever is just let in has to pass its checks before the run goes on.
    assert passing.script == "configure_haproxy file wait"
    assert not ready.script


def test_without_the_issuers_word_everybody_stays_as_they_are() -> None:
    seen = balancer(UNTOLD, "backend-02")
    off = Run(UNTOLD, says=proving("backend-01"), unreached=["backend-01"])
    assert gated(off, UNTOLD, seen)[0] == Step("Passthrough")
    assert off.asked == []
    assert gated(Run(UNTOLD), UNTOLD, seen)[0] == Step("Passthrough")


def test_a_balancer_that_has_yet_to_hear_a_backend_on_its_port_knocks_there() -> None:
    run = Run(FLEET, says={**proving(*ALL), "balancer": ["backend-02"]})
    passing, _ = gated(run, FLEET, balancer(FLEET, *ALL))
    [question] = [question for name, question in run.asked if name == "balancer"]
    assert [each[:3] for each in json.loads(question)] == [
        [name, f"203.0.113.1{number}", 8443] for number, name in enumerate(ALL, 1)
    ]
    # Only whom it has heard is sent there; the others would be lost to the fleet.
    assert gate.read(passing.text).ports == {"backend-01": 0, "backend-02": 8443, "backend-03": 0}


def test_who_is_told_the_clients_address_already_is_not_knocked_at_again() -> None:
    run = Run(FLEET, says=proving(*ALL))
    gated(run, FLEET, balancer(FLEET, *ALL, port=8443))
    assert [name for name, _ in run.asked] == ["backend-01"]


def test_where_the_clients_address_is_not_told_nobody_is_knocked_at() -> None:
    run = Run(UNTOLD, says=proving(*ALL))
    for seen in (balancer(UNTOLD), Survey()):
        gated(run, UNTOLD, seen)
    assert [name for name, _ in run.asked] == ["backend-01"]


def test_a_member_that_a_given_up_removal_has_drained_takes_connections_again() -> None:
    states = tuple(
        f"4 tls 1 {name} 203.0.113.11 2 {state} 1"
        for name, state in (("backend-01", 0), ("backend-02", 8), ("backend-03", 8))
    )
    run = Run(UNTOLD, says=proving("backend-01", "backend-02"))
    seen = balancer(UNTOLD, "backend-01", "backend-02", states=states)
    _, ready = gated(run, UNTOLD, seen)
    # The third is drained too, and nobody has proven it.
    assert ready.script == (
        "echo 'set server tls/backend-02 state ready' | "
        "socat -t 5 - /run/haproxy/admin.sock > /dev/null"
    )


def test_questions_arrive_as_one_word_whatever_a_backend_is_called() -> None:
    command = passthrough.Listening().command('[["it\'s", "x; touch /no"]]')
    assert """'[["it'"'"'s", "x; touch /no"]]'""" in command
    assert command.endswith(" ) 2>/dev/null || :")

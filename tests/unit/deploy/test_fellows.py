"""What a host's part of a run knows of the others, and when it stops because of one of them."""

from __future__ import annotations

import subprocess

from certsync.operator.hosts.survey import Survey
from deploy import fellows
from tests.unit.fake_fleet import fleet
from tests.unit.fake_run import Run

FLEET = fleet()
LIKE = {each.name: Survey(libc=each.name) for each in FLEET.machines}


def said(commands: list[str]) -> list[tuple[int, str]]:
    """Return how each of these commands ends on a host, and what it says."""
    found = []
    for each in commands:
        done = subprocess.run(["sh", "-c", each], capture_output=True, text=True)
        found.append((done.returncode, done.stderr))
    return found


def test_of_the_hosts_that_this_run_does_not_reach_nothing_is_known() -> None:
    run = Run(FLEET, LIKE, unreached=["backend-02"])
    hosts = [run.host(name) for name in ("backend-02", "backend-03")]
    assert fellows.seen(hosts) == {"backend-03": LIKE["backend-03"]}
    assert run.asked == [("backend-03", "look")]


def test_a_replica_that_failed_is_still_known_and_an_issuer_that_failed_is_not() -> None:
    # A replica's host keys are its own, however far it came; an issuer's push key may be half made.
    run = Run(FLEET, LIKE)
    run.fail("backend-01", "backend-02")
    assert [*fellows.seen([run.host("backend-02")])] == ["backend-02"]
    assert fellows.of_issuer(run.host("backend-01")) == Survey()
    assert run.asked == [("backend-02", "look")]


def test_of_an_issuer_that_is_not_reached_nothing_is_known_and_it_is_not_asked() -> None:
    run = Run(FLEET, LIKE, unreached=["backend-01"])
    assert fellows.of_issuer(run.host("backend-01")) == Survey()
    assert run.asked == []


def test_a_host_goes_on_while_the_new_issuer_comes_through_and_stops_once_it_has_failed() -> None:
    run = Run(FLEET)
    op_hash = run.called(
        "backend-02", fellows.require_taken_over, run.state, run.host("backend-01")
    )
    assert run.commands("backend-02", op_hash) == []
    # Whether it has is known when it is the operation's turn, not when the run is worked out.
    run.fail("backend-01")
    assert said(run.commands("backend-02", op_hash)) == [
        (1, "backend-01 has not taken over: this host is not changed any further\n")
    ]


def require_released(run: Run, *others: str) -> list[tuple[int, str]]:
    hosts = [run.host(name) for name in others]
    return said(
        run.commands(
            "backend-02", run.called("backend-02", fellows.require_released, run.state, hosts)
        )
    )


def test_who_has_not_let_a_backend_go_is_named_and_keeps_it_as_it_is() -> None:
    run = Run(FLEET, unreached=["backend-03"])
    run.fail("balancer")
    assert require_released(run, "backend-01", "backend-03", "balancer") == [
        (1, "backend-03, balancer may still use this host: nothing is changed here\n")
    ]
    assert require_released(run, "backend-01") == []
    assert require_released(run) == []

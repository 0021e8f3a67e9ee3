"""The certificate's own road: which commands the issuer gets, and which it is spared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from certsync.operator.hosts.survey import Entry, Survey
from deploy import progress, road
from tests.unit.fake_fleet import fleet
from tests.unit.fake_run import Run

FLEET = fleet()
ISSUER = "backend-01"
CERTSYNC = "/opt/certsync/current/bin/certsync"
OUTLOOK = "outlook issue replicate tickets prove"


def answering(**steps: list[str]) -> dict[str, Any]:
    """Return an issuer's answer to what a deploy asks it about at once."""
    return {ISSUER: {OUTLOOK: steps}}


def given(run: Run, operation: Callable[..., Any], *arguments: Any) -> list[str]:
    return run.commands(ISSUER, run.called(ISSUER, operation, *arguments))


def test_a_certificate_is_ordered_if_one_is_due_and_under_the_fleet_lock() -> None:
    progress._tokens.update({ISSUER: "abc"})
    run = Run(FLEET, says=answering(issue=["order a certificate"]))
    assert given(run, road.issue) == [f"{CERTSYNC} issue --lock-token abc"]
    assert run.asked == [(ISSUER, OUTLOOK)]


def test_a_certificate_is_not_ordered_if_none_is_due() -> None:
    assert given(Run(FLEET, says=answering(issue=[])), road.issue) == []


def test_an_issuer_that_cannot_say_what_is_due_gets_the_command_which_tells_why() -> None:
    # Without a lock of the fleet's an empty word stands where the token would.
    assert given(Run(FLEET), road.issue) == [f"{CERTSYNC} issue --lock-token ''"]


def test_what_is_to_be_done_next_is_asked_only_after_something_was_done() -> None:
    run = Run(FLEET, says=answering(issue=[], replicate=["send to backend-02"], tickets=[]))
    nobody = list[Any]()
    given(run, road.issue)
    assert given(run, road.replicate, run.state, nobody) == [
        f"{CERTSYNC} replicate --lock-token ''"
    ]
    assert run.asked == [(ISSUER, OUTLOOK)]
    run.says[ISSUER]["outlook tickets prove"] = {"tickets": []}
    assert given(run, road.share_tickets, run.state, nobody) == []
    assert run.asked == [(ISSUER, OUTLOOK), (ISSUER, "outlook tickets prove")]


def test_who_may_be_missed_is_named_as_it_is_when_replication_begins() -> None:
    run = Run(FLEET, unreached=["backend-03"])
    replicas = [run.host(name) for name in ("backend-02", "backend-03")]
    op_hash = run.called(ISSUER, road.replicate, run.state, replicas)
    run.fail("backend-02")
    verb = "replicate --missed backend-02 --missed backend-03"
    assert run.commands(ISSUER, op_hash) == [f"{CERTSYNC} {verb} --lock-token ''"]
    # What everybody's replication would do says nothing of one that may miss some.
    assert run.asked == [(ISSUER, f"{verb} --dry-run --json")]


def test_ticket_keys_may_miss_whom_replication_may_miss() -> None:
    run = Run(FLEET, unreached=["backend-03"])
    hosts = [run.host("backend-03")]
    assert given(run, road.share_tickets, run.state, hosts) == [
        f"{CERTSYNC} tickets --missed backend-03 --lock-token ''"
    ]


def test_keys_that_are_replaced_are_those_of_the_backend_that_left() -> None:
    run = Run(FLEET)
    assert given(run, road.compromised, "it's gone") == [
        f"{CERTSYNC} compromised --by 'it'\"'\"'s gone' --lock-token ''"
    ]


def test_an_account_is_given_back_where_certsync_is_and_not_after_it_is_gone() -> None:
    run = Run(FLEET)
    assert given(run, road.close_account) == []
    assert run.asked == [(ISSUER, "look")]
    there = Survey(entries={"/opt/certsync/current": Entry("l")})
    assert given(Run(FLEET, {ISSUER: there}), road.close_account) == []


def test_a_new_issuer_has_an_account_already_or_registers_one() -> None:
    run = Run(FLEET, says={ISSUER: {"register --dry-run --json": {"steps": []}}})
    assert given(run, road.register) == []
    assert given(Run(FLEET), road.register) == [f"{CERTSYNC} register --lock-token ''"]


def test_a_dry_run_tells_what_the_issuer_would_do(
    events: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTSYNC_DRY", "1")
    given(Run(FLEET, says=answering(issue=["order a certificate"])), road.issue)
    assert events() == [
        {"event": "answer", "host": ISSUER, "name": "issue", "steps": ["order a certificate"]}
    ]

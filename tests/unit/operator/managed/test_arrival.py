"""Waiting for what a provider's balancer was told, where no provider tells when it is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from certsync.model.fleet import Fleet
from certsync.model.options import Balancer as Table
from certsync.model.options import Provider
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer.gate import Seen
from certsync.operator.balancer.managed import arrival
from certsync.operator.balancer.managed.drive import Clock
from certsync.operator.balancer.managed.driven import Driven
from certsync.operator.balancer.managed.port import Ability, Member, Rule, State
from certsync.operator.balancer.managed.wanted import Task
from tests.unit.fake_fleet import NAME, fleet
from tests.unit.fake_provider import Balancer, Time

HERE = "127.0.0.1"
FLEET = fleet(2, balancers=(), balancer=Table(Provider.DIGITALOCEAN, load_balancer="7"))
SHARED = Ability(shared_pool=True, drains=False, proxy=(), unseen_seconds=20)
ALL = State(Rule(443), tuple(Member(each.private_address, each.name) for each in FLEET.backends))


@contextmanager
def answering(status: int) -> Iterator[int]:
    """Answer every request with a status, and give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer((HERE, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "arrives"), [(404, True), (200, True), (502, False), (503, False), (504, False)]
)
def test_a_backend_answers_anything_but_what_a_balancer_says_without_one(
    status: int, *, arrives: bool
) -> None:
    with answering(status) as port:
        assert arrival.http_arrives(HERE, NAME, port) is arrives


def test_where_nobody_listens_nothing_arrives() -> None:
    with answering(404) as port:
        pass
    assert not arrival.http_arrives(HERE, NAME, port)


def test_what_never_arrives_is_waited_for_no_longer_than_it_makes_sense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time, answers = Time(), [False, False, True]
    clock = Clock(lambda: time.now, time.sleep)
    one = replace(FLEET, public_addresses=("192.0.2.1",))
    monkeypatch.setattr(arrival, "http_arrives", lambda *_: answers.pop(0))
    arrival.await_challenges(one, clock)
    assert time.waits == [2, 2]
    monkeypatch.setattr(arrival, "http_arrives", lambda *_: False)
    arrival.await_challenges(one, clock)
    assert time.now == 1000 + 4 + 180


class Waits:
    """A driven balancer that notes what it waits for."""

    def __init__(self, state: State) -> None:
        self.time, self.said = Time(), list[str]()
        self.balancer = Balancer(self.time, state, ability=SHARED)
        self.driven = Driven(
            Task(FLEET, SHARED),
            self.balancer,
            await_challenges=self.noted("challenges"),
            await_tls=self.noted("TLS"),
            clock=Clock(lambda: self.time.now, self.time.sleep),
        )

    def noted(self, what: str) -> arrival.Await:
        def note(_fleet: Fleet, _clock: Clock) -> None:
            self.said.append(what)

        return note


def proven() -> Seen:
    names = [each.name for each in FLEET.backends]
    proofs = {each: Proof(each, Verdict.IN_SYNC, "", "", "", "") for each in names}
    return Seen({NAME: proofs}, names)


def test_before_a_first_order_challenges_have_to_arrive_also_if_the_issuer_was_there() -> None:
    waits = Waits(State(None))
    waits.driven.admit_issuer()
    waits.driven.admit_issuer()
    assert waits.said == ["challenges", "challenges"]
    waits = Waits(ALL)
    waits.driven.admit_issuer()
    assert waits.said == []


def test_tls_has_to_arrive_after_a_change_only() -> None:
    waits = Waits(State(None))
    waits.driven.admit(proven())
    waits.driven.admit(proven())
    assert waits.said == ["TLS"]


def test_a_backend_that_was_taken_out_serves_on_until_the_balancer_has_heard_of_it() -> None:
    waits = Waits(ALL)
    waits.driven.drain("backend-02")
    assert [each.id for each in waits.balancer.state.members] == ["backend-01"]
    waits.driven.remove("backend-02")
    assert waits.time.waits[-1] == 20


def test_a_run_that_was_interrupted_after_the_removal_waits_again() -> None:
    waits = Waits(State(Rule(443), ALL.members[:1]))
    waits.driven.remove("backend-02")
    assert waits.time.waits == [20]


def test_present_members_stay_until_those_that_replace_them_were_checked() -> None:
    waits = Waits(State(Rule(443), ALL.members[:1]))
    wrong = replace(proven().proofs[NAME]["backend-01"], verdict=Verdict.WRONG)
    waits.driven.admit(Seen({NAME: {**proven().proofs[NAME], "backend-01": wrong}}))
    assert [each.id for each in waits.balancer.state.members] == ["backend-02"]
    assert 60 in waits.time.waits

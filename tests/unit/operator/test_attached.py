"""A provider's balancer in a run: what is done to it before which phase, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from certsync.model.answers import Proven
from certsync.model.errors import HostError
from certsync.model.fleet import Fleet
from certsync.model.options import Balancer as Table
from certsync.model.options import Provider
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer.gate import Seen
from certsync.operator.balancer.managed.drive import Clock
from certsync.operator.balancer.managed.driven import Driven
from certsync.operator.balancer.managed.errors import (
    ManagedError,
    RefusedChangeError,
    UnansweredError,
)
from certsync.operator.balancer.managed.port import Ability, Admit, Member, Rule, State
from certsync.operator.balancer.managed.wanted import Task
from certsync.operator.deployment import attached, operations
from certsync.operator.deployment.attached import Attached
from certsync.operator.deployment.plan import Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.hosts import issuer_side
from tests.unit.fake_fleet import NAME, fleet, lineage
from tests.unit.fake_provider import Balancer, Time

FLEET = fleet(3, balancers=(), balancer=Table(Provider.DIGITALOCEAN, load_balancer="7"))
ADDRESSES = {host.name: host.private_address for host in FLEET.backends}
SHARED = Ability(shared_pool=True, drains=False, proxy=())
ALL = tuple(ADDRESSES)
NOBODY: tuple[str, ...] = ()


class World:
    """A balancer, what the issuer proves, and a run."""

    def __init__(self) -> None:
        self.time = Time()
        self.balancer = Balancer(self.time, ability=SHARED)
        self.proven: tuple[str, ...] | None = ALL
        self.deployed: Fleet | None = None

    def run(self, of: Fleet = FLEET) -> Attached:
        driven = Driven(Task(of, SHARED), self.balancer)
        driven.clock = Clock(lambda: self.time.now, self.time.sleep)
        before = {
            operations.CONFIGURATION: driven.release,
            operations.CERTIFICATE: driven.admit_issuer,
        }
        return Attached(driven, before)

    def members(self) -> list[str]:
        names = {address: name for name, address in ADDRESSES.items()}
        return [names[each.address] for each in self.balancer.state.members]

    def in_service(self, *names: str) -> None:
        members = tuple(Member(ADDRESSES[each], each) for each in names)
        self.balancer.state = State(Rule(443), members)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    def proofs(*_: object) -> Proven:
        if made.proven is None:
            raise HostError("no route")
        found = {each: Proof(each, Verdict.IN_SYNC, "", "", "", "") for each in made.proven}
        return replace(Proven(), proofs={NAME: found})

    def rendered(*_: object) -> Fleet:
        if made.deployed is None:
            raise HostError("never deployed")
        return made.deployed

    monkeypatch.setattr(issuer_side, "proven", proofs)
    monkeypatch.setattr(issuer_side, "rendered", rendered)
    return made


def whole_run(run: Attached, outcome: Outcome) -> None:
    run.begin([])
    for phase in (operations.PACKAGES, operations.CONFIGURATION, operations.CERTIFICATE,
                  operations.REPLICATION, operations.PASSING):  # fmt: skip
        run.before_phase(str(phase))
    assert run.end(outcome, ()) == []


def test_the_issuer_comes_before_the_order_and_the_others_after_the_proof(world: World) -> None:
    run = world.run()
    run.begin([])
    run.before_phase(str(operations.CONFIGURATION))
    assert world.members() == []
    run.before_phase(str(operations.CERTIFICATE))
    assert (world.members(), world.balancer.state.rule) == (["backend-01"], None)
    run.end(Outcome(), ())
    assert world.members() == [*ALL]
    assert world.balancer.state.rule is not None
    assert run.steps == [
        Step("4 of 6: the certificate", "load balancer", "backend-01: gets traffic"),
        *(
            Step("6 of 6: passthrough, for what has been proven", "load balancer", what)
            for what in (
                "backend-02: gets traffic", "backend-03: gets traffic",
                "port 443: TLS is passed through to port 443",
            )
        ),
    ]  # fmt: skip


def test_a_second_run_changes_nothing(world: World) -> None:
    whole_run(world.run(), Outcome())
    world.balancer.asked.clear()
    again = world.run()
    whole_run(again, Outcome())
    assert (world.balancer.asked, again.steps) == ([], [])


def test_an_issuer_that_cannot_be_asked_changes_nothing(world: World) -> None:
    world.in_service("backend-01", "backend-02")
    before, world.proven = world.balancer.state.members, None
    whole_run(world.run(), Outcome())
    assert world.balancer.state.members == before


def test_a_dry_run_tells_what_the_run_then_does_and_changes_nothing(world: World) -> None:
    told = world.run().foreseen(changing=True)
    assert (world.balancer.asked, world.balancer.state.members) == ([], ())
    run = world.run()
    whole_run(run, Outcome())
    assert [(each.phase, each.what) for each in told.steps] == [
        (each.phase, each.what) for each in run.steps
    ]
    assert "load balancer: passthrough rule: off -> on" in told.pools[0]


def test_a_dry_run_of_a_finished_fleet_tells_of_nothing(world: World) -> None:
    whole_run(world.run(), Outcome())
    assert world.run().foreseen(changing=False).steps == ()


def test_what_is_somebody_elses_stops_the_run_before_its_first_change(world: World) -> None:
    world.balancer.state = State(None, objections=("port 443 opens TLS",))
    with pytest.raises(RefusedChangeError, match=r"^nothing was changed: port 443 opens TLS"):
        world.run().begin([])


def test_a_backend_that_cannot_be_a_member_stops_it_too(world: World) -> None:
    joins = replace(world.run(), joining=("backend-02",))
    world.balancer.strays = ("backend-02",)
    with pytest.raises(RefusedChangeError, match="backend-02: it is in another network"):
        joins.begin([])
    world.balancer.strays = ("backend-01",)
    with pytest.raises(RefusedChangeError, match="backend-01: it is in another network"):
        world.run().begin([])


def test_a_backend_that_is_dead_at_the_provider_does_not_stop_later_runs(world: World) -> None:
    world.in_service("backend-01")
    world.balancer.strays = ("backend-03",)
    run = world.run()
    run.begin([])
    [found] = run.end(Outcome(), ())
    assert str(found) == "load balancer: backend-03 is not admitted: it is in another network"
    assert world.members() == ["backend-01", "backend-02"]


def test_a_backend_that_the_provider_refuses_keeps_no_other_out(world: World) -> None:
    refusal = ManagedError("400: the address is not allowed")
    run = world.run()
    run.begin([])
    world.balancer.refuses = {ADDRESSES["backend-02"]: refusal}
    [found] = run.end(Outcome(), ())
    assert "backend-02 is not admitted: 400" in found.text
    assert {*world.members()} == {"backend-01", "backend-03"}
    assert world.balancer.state.rule is not None


def test_a_provider_that_refuses_every_backend_is_one_finding(world: World) -> None:
    run = world.run()
    run.begin([])
    world.balancer.refuses = dict.fromkeys(ADDRESSES.values(), ManagedError("400: no"))
    [found] = run.end(Outcome(), ())
    assert found.text == "400: no"
    assert world.balancer.state.rule is None


def test_edits_that_would_leave_nobody_to_serve_stop_it_too(world: World) -> None:
    world.in_service("backend-02")
    moved = replace(FLEET, lineages=(lineage(serving=("backend-01",)),))
    with pytest.raises(RefusedChangeError, match="none of the backends that serve"):
        world.run(moved).begin([])


def test_a_provider_that_fails_before_a_phase_stops_the_run(world: World) -> None:
    run = world.run()
    run.begin([])
    world.balancer.before_read = [UnansweredError("no answer")]
    with pytest.raises(ManagedError, match="no answer"):
        run.before_phase(str(operations.CERTIFICATE))


def test_a_provider_that_fails_at_the_end_is_a_finding(world: World) -> None:
    run = world.run()
    run.begin([])
    world.balancer.before_read = [UnansweredError("no answer", "try again")]
    [found] = run.end(Outcome(), ())
    assert (found.host, found.text, found.hint) == ("load balancer", "no answer", "try again")


def test_a_lost_lock_stops_before_the_next_call(world: World) -> None:
    run = world.run()
    run.begin([])

    def lost() -> None:
        raise HostError("the fleet lock was lost")

    run.driven.may_change = lost
    with pytest.raises(HostError, match="lost"):
        run.end(Outcome(), ())
    assert world.balancer.asked == []


@pytest.mark.parametrize(
    ("outcome", "only", "listening"),
    [
        (Outcome(), (), ALL),
        (Outcome(unreached=("backend-02",)), (), ("backend-01", "backend-03")),
        (Outcome(failed={"backend-03": "nginx"}), (), ("backend-01", "backend-02")),
        (Outcome(), ("backend-01", "backend-03"), ("backend-01", "backend-03")),
    ],
)
def test_only_backends_that_the_run_has_configured_count_as_listening(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    only: tuple[str, ...],
    listening: tuple[str, ...],
) -> None:
    taken: list[set[str]] = []

    def admit(_: Driven, seen: Seen) -> dict[str, str]:
        taken.append({*seen.listening})
        return {}

    monkeypatch.setattr(Driven, "admit", admit)
    run = world.run()
    run.begin([])
    run.end(outcome, only)
    assert taken == [{*listening}]


def test_a_pool_of_port_80_alone_is_left_to_people(world: World) -> None:
    assert world.run().about_port_80("backend-02") == ""
    run = world.run()
    run.driven.task = replace(run.driven.task, ability=replace(SHARED, shared_pool=False))
    assert "add backend-02 to it" in run.about_port_80("backend-02")


def test_a_fleet_without_such_a_balancer_has_no_such_part() -> None:
    assert attached.deploying(fleet(2)) is None


def test_each_change_is_told_as_it_is_made(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_run(world.run(), Outcome())
    assert "    load balancer: backend-02: gets traffic\n" in capsys.readouterr().err
    assert isinstance(world.balancer.asked[0], Admit)


Undo = Callable[[State], State]


def test_a_writer_that_takes_a_member_out_again_ends_the_run_with_a_finding(world: World) -> None:
    run = world.run()
    run.begin([])

    def without_two(state: State) -> State:
        return replace(state, members=tuple(e for e in state.members if "12" not in e.address))

    undo: Undo = without_two
    world.balancer.undo = undo
    [found] = run.end(Outcome(), ())
    assert "Terraform" in found.hint

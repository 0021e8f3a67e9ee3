"""The loop that drives a balancer, against one in memory and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import NO_LEAVE, Clock, Leave, drive
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    LostError,
    ManagedError,
    NoSuchError,
    RefusedChangeError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.port import (
    Drain,
    Member,
    Remove,
    Rule,
    State,
)
from tests.unit.fake_provider import FLEET, Balancer, Time

PLAIN, PROXY = Rule(443), Rule(8443, "v1")


def wanted(rule: Rule | None, *names: str, draining: Sequence[str] = ()) -> Wanted:
    return Wanted(
        rule, {each: FLEET[each] for each in names}, FLEET, {each: FLEET[each] for each in draining}
    )


def has(rule: Rule | None, *names: str) -> State:
    return State(rule, tuple(Member(FLEET[each], each) for each in names))


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def balancer(time: Time) -> Balancer:
    return Balancer(time)


@pytest.fixture
def told() -> list[str]:
    return []


def run(
    balancer: Balancer, wish: Wanted, told: list[str], seconds: float = 600, leave: Leave = NO_LEAVE
) -> State:
    time = balancer.time
    return drive(balancer, wish, told.append, Clock(lambda: time.now, time.sleep), seconds, leave)


WISH = wanted(PLAIN, "web-1", "web-2")
STEPS = [
    "web-1: gets traffic", "web-2: gets traffic", "port 443: TLS is passed through to port 443",
]  # fmt: skip


def test_it_becomes_what_is_wanted_each_step_told_once(balancer: Balancer, told: list[str]) -> None:
    assert run(balancer, WISH, told) == balancer.state
    assert balancer.state == has(PLAIN, "web-1", "web-2")
    assert told == STEPS
    assert balancer.time.waits == []


def test_a_second_time_asks_once_and_changes_nothing(balancer: Balancer, told: list[str]) -> None:
    run(balancer, WISH, told)
    balancer.asked, balancer.reads = [], 0
    run(balancer, WISH, told)
    assert (balancer.asked, balancer.reads, told) == ([], 1, STEPS)


@pytest.mark.parametrize("says", [True, False], ids=["says so", "does not say so"])
def test_what_takes_time_is_waited_for_and_asked_for_once(
    balancer: Balancer, told: list[str], says: bool
) -> None:
    balancer.seconds, balancer.says = 1 if says else 0.9, says
    run(balancer, WISH, told)
    assert len(balancer.asked) == 3
    assert told == STEPS
    assert sum(balancer.time.waits) < 10


@pytest.mark.parametrize("shows", [True, False], ids=["shows it at once", "shows it then"])
def test_it_is_done_only_when_the_last_change_is(
    balancer: Balancer, told: list[str], shows: bool
) -> None:
    balancer.seconds, balancer.shows = 40, shows
    end = run(balancer, wanted(None, "web-1"), told)
    assert end == has(None, "web-1")
    assert balancer.time.now >= 1040


def test_one_that_stays_busy_is_given_up_for_later(balancer: Balancer, told: list[str]) -> None:
    balancer.seconds = 7200
    with pytest.raises(BusyError, match="is updating") as raised:
        run(balancer, WISH, told, seconds=100)
    assert raised.value.exit_status == 75
    assert "not done yet: web-1: gets traffic; web-2" in raised.value.message
    assert balancer.time.now == 1100
    assert len(balancer.asked) == 1
    assert balancer.time.waits == [1, 2, 4, 8, 16, 30, 30, 9]


def test_busy_and_limits_are_waited_for_as_long_as_they_say(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.before = [BusyError("busy", seconds=7), LimitError("limit", seconds=11), None]
    balancer.before_read = [None, LimitError("limit", seconds=3)]
    run(balancer, WISH, told)
    assert balancer.time.waits[:3] == [7, 3, 11]
    assert told == STEPS


def test_a_wait_that_is_longer_than_the_time_is_not_begun(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.before = [LimitError("too many calls", "try again later", seconds=300)]
    with pytest.raises(LimitError, match="too many calls"):
        run(balancer, WISH, told, seconds=100)
    assert balancer.time.waits == []


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_answer_costs_a_look(balancer: Balancer, told: list[str], carried_out: bool) -> None:
    lost: list[ManagedError | None] = [UncertainError("lost")]
    if carried_out:
        balancer.after = lost
    else:
        balancer.before = lost
    run(balancer, WISH, told)
    assert balancer.state == has(PLAIN, "web-1", "web-2")
    assert told == STEPS
    assert len(balancer.asked) == (3 if carried_out else 4)


def test_looks_that_fail_after_the_first_are_repeated(balancer: Balancer, told: list[str]) -> None:
    balancer.before_read = [None, UnansweredError("no answer"), UnansweredError("no answer")]
    run(balancer, WISH, told)
    assert told == STEPS
    assert len(balancer.asked) == 3


def test_a_first_look_that_fails_is_told_at_once(balancer: Balancer, told: list[str]) -> None:
    balancer.before_read = [UnansweredError("the API cannot be reached")]
    with pytest.raises(UnansweredError, match="cannot be reached"):
        run(balancer, WISH, told)
    assert balancer.time.waits == []


def test_looks_that_keep_failing_end_with_the_time(balancer: Balancer, told: list[str]) -> None:
    balancer.before_read = [None, *[UnansweredError("no answer", "try")] * 100]
    with pytest.raises(UnansweredError, match=r"no answer \(not done yet: web-1") as raised:
        run(balancer, WISH, told, seconds=100)
    assert raised.value.hint == "try"


def test_a_refusal_is_told_if_the_change_is_not_there(balancer: Balancer, told: list[str]) -> None:
    balancer.before = [None, ManagedError("port is taken")]
    with pytest.raises(ManagedError, match="port is taken"):
        run(balancer, WISH, told)
    assert balancer.state == has(None, "web-1")
    assert told == STEPS[:1]
    run(balancer, WISH, told)
    assert told == STEPS


@pytest.mark.parametrize("error", [ManagedError("422"), NoSuchError("404")])
def test_a_refusal_of_what_was_carried_out_does_not_count(
    balancer: Balancer, told: list[str], error: ManagedError
) -> None:
    balancer.after = [error]
    run(balancer, WISH, told)
    assert told == STEPS


def test_a_token_that_expires_ends_it_at_once(balancer: Balancer, told: list[str]) -> None:
    balancer.before = [None, TokenError("expired")]
    with pytest.raises(TokenError):
        run(balancer, WISH, told)
    assert balancer.reads == 2


def test_a_change_that_changed_more_is_told_at_once(balancer: Balancer, told: list[str]) -> None:
    balancer.after = [LostError("the firewall is open")]
    with pytest.raises(LostError, match="the firewall is open"):
        run(balancer, WISH, told)
    assert len(balancer.asked) == 1


def test_another_writer_that_undoes_each_change_is_named(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.undo = lambda _: State(None)
    with pytest.raises(ManagedError, match=r"after 200 s \(not done yet: web-1") as raised:
        run(balancer, WISH, told, seconds=200)
    assert "Terraform" in raised.value.hint
    assert told == []
    assert balancer.time.now == 1200
    assert 5 < len(balancer.asked) <= 16


def test_one_that_undoes_by_turns_ends_by_the_number_of_calls(
    balancer: Balancer, told: list[str]
) -> None:
    def undo(state: State) -> State:
        return replace(state, members=state.members[-1:], rule=None)

    balancer.undo = undo
    with pytest.raises(ManagedError, match="not what it should be after"):
        run(balancer, WISH, told, seconds=1e9)
    assert len(balancer.asked) <= 16


def test_another_writer_that_does_our_change_is_welcome(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.undo = lambda _: has(PLAIN, "web-1", "web-2")
    run(balancer, WISH, told)
    assert (len(balancer.asked), told) == (1, STEPS)


def test_fifty_backends_are_not_too_many(balancer: Balancer, told: list[str]) -> None:
    balancer.seconds = 2
    run(balancer, wanted(PLAIN, *FLEET), told, seconds=3600)
    assert len(told) == 51


def test_without_time_nothing_is_begun(balancer: Balancer, told: list[str]) -> None:
    with pytest.raises(ManagedError, match="after 0 s"):
        run(balancer, WISH, told, seconds=0)
    assert balancer.asked == []
    balancer.state = has(PLAIN, "web-1", "web-2")
    assert run(balancer, WISH, told, seconds=0) == balancer.state


def test_drained_then_removed(balancer: Balancer, told: list[str]) -> None:
    run(balancer, WISH, told)
    run(balancer, wanted(PLAIN, "web-1", draining=["web-2"]), told)
    run(balancer, wanted(PLAIN, "web-1"), told)
    assert balancer.asked[-2:] == [
        Drain(Member("10.0.0.2", "web-2")), Remove(Member("10.0.0.2", "web-2", takes=False)),
    ]  # fmt: skip
    assert told[3:] == ["web-2: gets no new connections", "web-2: leaves the pool"]


@pytest.mark.parametrize(
    ("state", "wish", "why"),
    [
        (State(None, objections=("it opens TLS",)), WISH, "it opens TLS"),
        (State(None, (Member("10.9.9.9", "7"),)), WISH, "10.9.9.9 is in its pool"),
        (State(PLAIN), wanted(PLAIN), "without any backend"),
        (State(PLAIN), wanted(Rule(8443, "v3"), "web-1"), "PROXY protocol v3"),
    ],
)
def test_what_speaks_against_it_is_said_before_any_change(
    balancer: Balancer, told: list[str], state: State, wish: Wanted, why: str
) -> None:
    balancer.state = state
    with pytest.raises(RefusedChangeError, match=f"^nothing was changed: .*{why}"):
        run(balancer, wish, told)
    assert (balancer.asked, balancer.state) == ([], state)


def test_an_obstacle_is_one_to_everybody(balancer: Balancer, told: list[str]) -> None:
    balancer.state = State(None, obstacles=("Kubernetes drives it",))
    with pytest.raises(RefusedChangeError, match=r"^nothing was changed: Kubernetes drives it"):
        run(balancer, WISH, told, leave=Leave(adopt=True))


def test_somebody_may_take_it_over(balancer: Balancer, told: list[str]) -> None:
    balancer.state = State(None, (Member("10.9.9.9", "7"),), objections=("it opens TLS",))
    adopt = Leave(adopt=True)
    balancer.undo = lambda state: replace(state, objections=())
    run(balancer, WISH, told, leave=adopt)
    assert told == [*STEPS[:2], "10.9.9.9: leaves the pool", STEPS[2]]


def test_a_stranger_that_comes_meanwhile_is_not_said_to_have_come_before(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.undo = lambda state: replace(
        state, members=(*state.members, Member("10.9.9.9", "stranger"))
    )
    with pytest.raises(RefusedChangeError, match=r"^the balancer is not changed any further: 10\."):
        run(balancer, WISH, told)
    assert len(balancer.asked) == 1


def test_a_gap_needs_leave_and_is_asked_for_before_any_change(
    balancer: Balancer, told: list[str]
) -> None:
    balancer.ability = replace(balancer.ability, gap_seconds=5)
    balancer.state = has(PLAIN, "web-1")
    with pytest.raises(RefusedChangeError, match=r"^nothing .* up to 5 s") as raised:
        run(balancer, wanted(PROXY, "web-1", "web-2"), told)
    assert "--accept-gap" in raised.value.hint
    assert balancer.asked == []
    run(balancer, wanted(PROXY, "web-1", "web-2"), told, leave=Leave(gap=True))
    assert balancer.state == has(PROXY, "web-1", "web-2")

"""Who gets a generation, and what stops one."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest

from certsync.issuer.replicas.answer import Answer
from certsync.issuer.replicas.backend import Backend
from certsync.issuer.replicas.rollout import Plan, Refusal, Standing, plan, veto
from certsync.issuer.replicas.under_way import Rollout
from certsync.issuer.schedule import last_chance
from certsync.model.errors import KeyRefusedError, UnreachableError
from tests.unit.fake_fleet import NAME, NOW, machine, manifest

HOUR = timedelta(hours=1)
SUM = "a" * 64
GOOD = {"0001": "f" * 64, "0002": SUM}
ISSUER = Standing("backend-01", reached=True, current="0002", generations=GOOD)


def test_nothing_is_to_be_done_where_all_have_it_and_serve_it() -> None:
    replica = Standing("backend-02", reached=True, current="0002", generations=GOOD)
    assert plan(2, SUM, [ISSUER, replica], "backend-01", []).steps() == []


@pytest.mark.parametrize(
    ("replica", "steps"),
    [
        pytest.param(
            Standing("backend-02", reached=True, current="0001", generations={"0001": "f" * 64}),
            ["backend-02: push generation 0002", "backend-02: activate generation 0002"],
            id="behind",
        ),
        pytest.param(
            Standing("backend-02", reached=True, current="0001", generations=GOOD),
            ["backend-02: activate generation 0002"],
            id="cut off between check and activate",
        ),
        pytest.param(
            Standing("backend-02", reached=True, current="0002", generations={}),
            ["backend-02: push generation 0002", "backend-02: activate generation 0002"],
            id="its copy is damaged",
        ),
        pytest.param(
            Standing("backend-02", reached=False, why="it does not answer"),
            ["backend-02: not reached: it does not answer"],
            id="out of reach",
        ),
    ],
)
def test_a_replica_gets_what_it_lacks(replica: Standing, steps: list[str]) -> None:
    assert plan(2, SUM, [ISSUER, replica], "backend-01", []).steps() == steps


def test_a_backend_that_has_it_and_serves_another_is_activated_again() -> None:
    replica = Standing("backend-02", reached=True, current="0002", generations=GOOD)
    made = plan(2, SUM, [ISSUER, replica], "backend-01", ["backend-02"])
    assert (made.push, made.activate) == ((), ("backend-02",))


def test_the_issuer_is_never_pushed_to() -> None:
    issuer = Standing("backend-01", reached=True, current="0001", generations={})
    assert plan(2, SUM, [issuer], "backend-01", []).push == ()


def content(name: str) -> Refusal:
    return Refusal(name, "no", of_content=True)


def full_disk(name: str) -> Refusal:
    return Refusal(name, "No space left on device")


@pytest.mark.parametrize(
    ("reached", "refusals", "why"),
    [
        pytest.param(3, [], "", id="nobody refuses"),
        pytest.param(3, [content("backend-02")], "", id="one of three"),
        pytest.param(2, [content("backend-02")], "", id="two have no majority"),
        pytest.param(
            3,
            [content("backend-03"), content("backend-02")],
            "2 of 3 backends refuse it: backend-02: no; backend-03: no",
            id="two of three",
        ),
        pytest.param(4, [content("backend-02"), content("backend-03")], "", id="half of four"),
        pytest.param(
            3, [full_disk("backend-02"), full_disk("backend-03")], "", id="full disks say nothing"
        ),
        pytest.param(
            3, [full_disk("backend-02"), content("backend-03")], "", id="one of the two is a disk"
        ),
        pytest.param(
            5,
            [full_disk("backend-01")],
            "backend-01, the issuer, refuses it: No space left on device",
            id="the issuer measures all others",
        ),
    ],
)
def test_what_stops_a_generation(reached: int, refusals: list[Refusal], why: str) -> None:
    assert veto("backend-01", reached, refusals, NOW, NOW + HOUR) == why


def test_a_veto_ends_before_the_live_certificate_does() -> None:
    most = [content("backend-02"), content("backend-03")]
    live = manifest(1, days=90)
    end = last_chance(live)
    assert end == live.not_before + timedelta(days=75)
    for refusals in (most, [full_disk("backend-01")]):
        assert veto("backend-01", 3, refusals, end - HOUR, end) != ""
        assert veto("backend-01", 3, refusals, end, end) == ""
    own = content("backend-01")
    assert veto("backend-01", 3, [own], end - HOUR, end) != ""
    # A replica takes it, and time runs out.
    assert veto("backend-01", 3, [own], end, end) == ""
    # None does: it is barred, so that another one is ordered.
    assert veto("backend-01", 3, [own, *most], end, end) != ""


def test_where_nothing_is_live_most_backends_stop_nothing_but_the_issuer_does() -> None:
    assert last_chance(None) is None
    assert veto("backend-01", 3, [content("backend-02"), content("backend-03")], NOW, None) == ""
    assert veto("backend-01", 3, [full_disk("backend-01")], NOW, None) != ""


class Answering(Backend):
    """A backend that has another generation live, or says no."""

    def __init__(self, name: str, answer: Answer) -> None:
        super().__init__(machine(name, 11), local=False)
        self.answer = answer

    def ask(self, *_: object) -> Answer:
        return self.answer


BEFORE = Answer(ok=True, current="0002", before="0001")
SAME = Answer(ok=True, current="0002", before="0002")
NO = Answer(ok=False, why="no", of_content=True)


@pytest.mark.parametrize(
    ("answers", "changed", "mixed"),
    [
        ([BEFORE, BEFORE, BEFORE], 3, True),
        ([BEFORE, BEFORE, NO], 2, True),
        ([BEFORE, SAME, SAME], 3, False),
        ([BEFORE, NO, NO], 1, False),
        ([], 0, False),
    ],
)
def test_two_generations_are_served_side_by_side_where_more_than_one_backend_changed(
    answers: list[Answer], changed: int, mixed: bool
) -> None:
    backends = [Answering(f"backend-0{n}", answer) for n, answer in enumerate(answers)]
    run = Rollout(NAME, Plan(2, (), (), {}), cast("list[Backend]", backends), lambda _: None)
    run.activate(run.backends)
    assert len(run.changed) == changed
    seconds = run.mixed_seconds()
    assert (seconds is not None) is mixed
    assert seconds is None or 0 <= seconds < 5


def test_a_key_that_is_refused_on_the_way_is_noted_as_that() -> None:
    replica = Backend(machine("backend-02", 12), local=False)
    run = Rollout(NAME, Plan(2, (), (), {}), [replica], print)
    run.note(replica, UnreachableError("backend-02: no route"))
    assert run.refusing == set()
    run.note(replica, KeyRefusedError("backend-02: it does not accept the SSH key"))
    assert run.refusing == {"backend-02"}

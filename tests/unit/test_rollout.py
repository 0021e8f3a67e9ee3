"""Who gets a generation, and what stops one."""

from __future__ import annotations

from typing import Any, cast

import pytest

from certsync.commands.replicate import Rollout
from certsync.replication import Backend
from certsync.rollout import Plan, Standing, plan, veto
from tests.unit.fake_fleet import fleet, machine

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


@pytest.mark.parametrize(
    ("reached", "refused", "why"),
    [
        (3, {}, ""),
        (3, {"backend-02": "no"}, ""),
        (2, {"backend-02": "no"}, ""),
        (
            3,
            {"backend-02": "no", "backend-03": "no"},
            "2 of 3 backends refuse it: backend-02: no; backend-03: no",
        ),
        (4, {"backend-02": "no", "backend-03": "no"}, ""),
        (5, {"backend-01": "disk"}, "backend-01, the issuer, refuses it: disk"),
    ],
)
def test_only_the_issuer_or_more_than_half_of_three_or_more_reached_stop_a_generation(
    reached: int, refused: dict[str, str], why: str
) -> None:
    assert veto("backend-01", reached, refused) == why


class Answering(Backend):
    """A backend that has another generation live, or says no."""

    def __init__(self, name: str, answer: dict[str, Any]) -> None:
        super().__init__(machine(name, 11), local=False)
        self.answer = answer

    def ask(self, *_: object) -> dict[str, Any]:
        return self.answer


BEFORE = {"ok": True, "current": "0002", "before": "0001"}
SAME = {"ok": True, "current": "0002", "before": "0002"}
NO = {"ok": False, "why": "no"}


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
    answers: list[dict[str, Any]], changed: int, mixed: bool
) -> None:
    backends = [Answering(f"backend-0{n}", answer) for n, answer in enumerate(answers)]
    run = Rollout(fleet(), Plan(2, (), (), {}), cast("list[Backend]", backends), lambda _: None)
    run.activate(run.backends)
    assert len(run.changed) == changed
    seconds = run.mixed_seconds()
    assert (seconds is not None) is mixed
    assert seconds is None or 0 <= seconds < 5

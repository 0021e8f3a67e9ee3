"""Who gets a generation, and what stops one."""

from __future__ import annotations

import pytest

from certsync.rollout import Standing, plan, veto

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

"""What status says of the renewal runs, and at which moment they start."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certsync.issuer.state import LineageState, State
from certsync.model.answers import NextRenewal, PastRun, Proven
from certsync.model.fleet import Fleet
from certsync.model.options import Renewal
from certsync.operator.rendering.timetable import moment_of
from certsync.operator.watching import watch
from tests.unit.fake_fleet import NAME, NOW, fleet, lineage


def ran(ago: timedelta, exit_status: int = 0, error: str = "", verb: str = "renew") -> State:
    """Return the state after one run."""
    did = () if error else ("ordered generation 0002",)
    return State().ended(PastRun(verb, NOW - ago, exit_status, error, "", did))


def told(state: State, **more: object) -> Proven:
    """Return what the operator's side makes of what the issuer says."""
    return Proven.from_json({"state": state.to_json(), **more}, NAME)


def findings(seen: Proven, of: Fleet, now: datetime) -> list[str]:
    return [str(each) for each in watch.findings(seen, of, now)]


@pytest.mark.parametrize(
    ("hours", "every", "found"),
    [
        pytest.param(2.9, 1, [], id="two were missed"),
        pytest.param(
            4,
            1,
            [
                (
                    "backend-01: no renewal run for over 3 hours, the last one was 4 hours ago: "
                    "see journalctl -t certsync there"
                )
            ],
            id="three were missed",
        ),
        pytest.param(11, 4, [], id="in a fleet that looks every four hours"),
        pytest.param(
            72,
            4,
            [
                (
                    "backend-01: no renewal run for over 12 hours, the last one was 3 days ago: "
                    "see journalctl -t certsync there"
                )
            ],
            id="and has not",
        ),
    ],
)
def test_runs_that_do_not_come_are_a_finding(hours: float, every: int, found: list[str]) -> None:
    state = ran(timedelta(hours=hours))
    assert findings(told(state), fleet(renewal=Renewal(every)), NOW) == found


def test_a_fleet_just_deployed_need_not_have_renewed_yet() -> None:
    state = ran(timedelta(hours=1), verb="issue")
    assert findings(told(state), fleet(), NOW) == []
    state = ran(timedelta(hours=5), verb="issue")
    assert findings(told(state), fleet(), NOW) == [
        (
            "backend-01: no renewal run for over 3 hours, none has run yet: "
            "see journalctl -t certsync there"
        )
    ]


def test_a_run_that_failed_is_a_finding_and_one_put_off_is_none() -> None:
    state = ran(timedelta(hours=1), 1, "no answer")
    assert findings(told(state), fleet(), NOW) == [
        "backend-01: renewal run of 2026-11-21 11:00 UTC: no answer"
    ]
    put_off = PastRun("renew", NOW - timedelta(hours=1), 75, "busy")
    assert findings(told(ran(timedelta(hours=20)).ended(put_off)), fleet(), NOW) == []
    assert findings(told(ran(timedelta(hours=30)).ended(put_off)), fleet(), NOW) == [
        "backend-01: renewal run of 2026-11-21 11:00 UTC: busy"
    ]


@pytest.mark.parametrize(
    ("later", "is_past"),
    [
        (PastRun("replicate", NOW, 0), True),
        (PastRun("issue", NOW, 0), True),
        (PastRun("replicate", NOW, 1, "no answer"), False),
        (PastRun("replicate", NOW - timedelta(hours=2), 0), False),
        (PastRun("tickets", NOW, 0), False),
        (PastRun("issue", NOW + timedelta(days=9), 0), False),
    ],
)
def test_a_run_that_failed_is_past_once_another_command_has_succeeded(
    later: PastRun, *, is_past: bool
) -> None:
    failed = ran(timedelta(hours=1), 1, "no answer").ended(later)
    told_of = "backend-01: renewal run of 2026-11-21 11:00 UTC: no answer"
    assert (told_of not in findings(told(failed), fleet(), NOW)) is is_past


def test_a_challenge_that_would_be_lost_is_a_finding() -> None:
    proven = Proven.from_json({"challenge": "backend-02: answers HTTP 404"}, "example.com")
    assert [str(each) for each in watch.findings(proven, fleet(), NOW)] == [
        "backend-01: a challenge would not reach the issuer: backend-02: answers HTTP 404"
    ]
    assert watch.findings(Proven.from_json({}, "example.com"), fleet(), NOW) == []


def test_a_disk_that_cannot_be_written_is_a_finding_though_the_last_recorded_run_was_well() -> None:
    why = "/var/lib/certsync cannot be written: No space left on device"
    proven = Proven.from_json({"unwritable": why}, "example.com")
    assert [str(each) for each in watch.findings(proven, fleet(), NOW)] == [
        f"backend-01: {why}: nothing can be ordered or recorded there"
    ]


def test_a_run_noted_by_a_clock_that_was_ahead_hides_nothing() -> None:
    state = ran(timedelta(hours=5)).ended(PastRun("issue", NOW + timedelta(days=9), 0))
    found = findings(told(state), fleet(), NOW)
    assert found[0] == (
        "backend-01: a run is recorded for 2026-11-30 12:00 UTC: its clock is or was ahead"
    )
    assert "no renewal run for over 3 hours" in found[1]


def test_people_are_told_what_is_next_and_what_has_been() -> None:
    answer = {NAME: NextRenewal(NOW, "a third is left")}
    assert watch.coming(Proven(renewals=answer), fleet()) == [
        "next renewal after 2026-11-21 12:00 UTC: a third is left"
    ]
    assert watch.coming(Proven(), fleet()) == []
    known = LineageState(mixed_seconds=1.26)
    state = ran(timedelta(hours=1)).having(NAME, known)
    state = state.ended(PastRun("renew", NOW, 0))
    state = state.ended(PastRun("renew", NOW, 1, "no answer"))
    assert watch.history(told(state), fleet()) == [
        "the last rollout served two generations side by side for 1.3 s",
        "2026-11-21 11:00 UTC  renew: ordered generation 0002",
        "2026-11-21 12:00 UTC  renew: no answer",
    ]
    assert watch.history(Proven(), fleet()) == []


SHOP = "shop.example.net"
SEVERAL = fleet(lineages=(lineage(), lineage(SHOP)))


def test_of_several_lineages_each_ones_rollout_is_told_with_its_name() -> None:
    state = State().having(NAME, LineageState(mixed_seconds=1))
    state = state.having(SHOP, LineageState(mixed_seconds=2.5))
    assert watch.history(told(state), SEVERAL) == [
        f"the last rollout of {NAME} served two generations side by side for 1.0 s",
        f"the last rollout of {SHOP} served two generations side by side for 2.5 s",
    ]


def test_of_several_lineages_each_ones_next_renewal_is_told_with_its_name() -> None:
    answer: dict[str, object] = {"next_renewal": NOW.isoformat(), "why": "a third is left"}
    first = f"next renewal of {NAME} after 2026-11-21 12:00 UTC: a third is left"
    assert watch.coming(told(State(), **answer), SEVERAL) == [first]
    answer_of_both = {**answer, "renewals": {SHOP: [NOW.isoformat(), "the CA suggests it"]}}
    assert watch.coming(told(State(), **answer_of_both), SEVERAL) == [
        first,
        f"next renewal of {SHOP} after 2026-11-21 12:00 UTC: the CA suggests it",
    ]
    unknown = {**answer, "renewals": {SHOP: ["", ""]}}
    assert watch.coming(told(State(), **unknown), SEVERAL) == [first]
    assert watch.coming(told(State(), **answer_of_both), fleet()) == [
        first.replace(f" of {NAME}", "")
    ]
    assert watch.coming(Proven(), SEVERAL) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State(), ""),
        (ran(timedelta(minutes=12)), "last hourly run 12 min ago: all is well"),
        (ran(timedelta(hours=2), 75, "busy"), "last hourly run 2 hours ago: exit status 75"),
    ],
)
def test_the_age_of_the_last_run_is_told(state: State, words: str) -> None:
    assert watch.last_run(told(state), NOW) == words


def test_a_fleets_moment_is_its_own_and_stays() -> None:
    moments = {moment_of(fleet(names=(f"{number}.example.com",))) for number in range(300)}
    assert len({(each.minute, each.second) for each in moments}) > 250
    assert {each.minute for each in moments} <= set(range(1, 59))
    assert {each.hours for each in moments} == {"*"}
    assert moment_of(fleet()) == moment_of(replace(fleet(), passthrough=False))


@pytest.mark.parametrize("every", [2, 3, 4, 6, 12])
def test_other_intervals_are_hours_that_are_evenly_apart(every: int) -> None:
    hours = [int(hour) for hour in moment_of(fleet(renewal=Renewal(every))).hours.split(",")]
    assert len(hours) == 24 // every
    assert {after - before for before, after in itertools.pairwise(hours)} == {every}

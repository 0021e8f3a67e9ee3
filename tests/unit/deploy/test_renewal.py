"""What starts the renewal run on the issuer: one of the two, and never both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from certsync.model.fleet import Fleet
from certsync.model.options import Renewal, Scheduler
from certsync.operator.hosts.survey import Entry, Survey, Unit
from deploy import renewal
from deploy.step import Step
from tests.unit.fake_fleet import fleet

BY_CRON = fleet()
BY_TIMER = fleet(renewal=Renewal(scheduler=Scheduler.SYSTEMD))
TIMER_FILE = "/etc/systemd/system/certsync-renew.timer"
RUNS = Unit("active", "enabled", is_outdated=False)


def needed(steps: Iterable[Step]) -> list[str]:
    return [each.name for each in steps if each.script]


def finished(made: Fleet) -> Survey:
    """Return what an issuer is like on which this schedule is in force."""
    entries = {}
    for each in renewal.scheduled(made, Survey()):
        if each.text:
            _, _, path, mode, owner, group = each.script.split()
            size = len(each.text.encode())
            entries[path] = Entry("f", mode, owner, group, each.text, size=size)
    units = {renewal.TIMER: RUNS} if TIMER_FILE in entries else {}
    return Survey(entries=entries, units=units)


@pytest.mark.parametrize("made", [BY_CRON, BY_TIMER])
def test_a_schedule_that_is_in_force_is_left_alone(made: Fleet) -> None:
    assert needed(renewal.scheduled(made, finished(made))) == []


def test_cron_takes_over_from_a_timer_that_is_gone_before_cron_begins() -> None:
    steps = [*renewal.scheduled(BY_CRON, finished(BY_TIMER))]
    assert needed(steps) == ["No renewal from a timer", "Renewal from cron"]
    script = next(each.script for each in steps if each.name == "No renewal from a timer")
    # Stopped first: without its file systemd would go on with what it has read.
    assert script.split("; ") == [
        "systemctl disable -q --now certsync-renew.timer",
        f"rm -f {TIMER_FILE} /etc/systemd/system/certsync-renew.service",
        "systemctl daemon-reload",
    ]


def test_a_timer_takes_over_from_cron_whose_file_goes_once_the_timer_runs() -> None:
    assert needed(renewal.scheduled(BY_TIMER, finished(BY_CRON))) == [
        "certsync-renew.service", "certsync-renew.timer", "systemd reload",
        "No renewal from cron",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "unit",
    [
        replace(RUNS, active="inactive"),
        replace(RUNS, enabled="disabled"),
        replace(RUNS, is_outdated=True),
    ],
)
def test_a_timer_that_does_not_run_as_its_file_says_is_read_and_started_again(unit: Unit) -> None:
    seen = replace(finished(BY_TIMER), units={renewal.TIMER: unit})
    assert needed(renewal.scheduled(BY_TIMER, seen)) == ["systemd reload"]


def test_a_service_that_changes_is_read_though_its_timer_runs() -> None:
    seen = finished(BY_TIMER)
    path = "/etc/systemd/system/certsync-renew.service"
    entries = {**seen.entries, path: Entry("f", "644", "root", "root", "[Service]\n", size=10)}
    assert needed(renewal.scheduled(BY_TIMER, replace(seen, entries=entries))) == [
        "certsync-renew.service", "systemd reload"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scheduler", "changed"),
    [
        (Scheduler.CRON, ["Renewal from cron"]),
        (Scheduler.SYSTEMD, ["certsync-renew.timer", "systemd reload"]),
    ],
)
def test_another_number_of_hours_changes_when_a_run_starts_and_nothing_else(
    scheduler: Scheduler, changed: list[str]
) -> None:
    hourly, seldom = (fleet(renewal=Renewal(hours, scheduler)) for hours in (1, 6))
    assert needed(renewal.scheduled(seldom, finished(hourly))) == changed

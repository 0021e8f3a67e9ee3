"""What is told of a run, line by line, to whoever started it."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import operation
from pyinfra.connectors.util import CommandOutput

from certsync.operator.deployment.operations import Phase
from deploy import carried_out, progress
from deploy.progress import Progress
from tests.unit.fake_fleet import fleet
from tests.unit.fake_run import Run

FLEET = fleet()
Events = Callable[[], list[dict[str, Any]]]
FIRST = Phase(1, 2, "packages")


@operation()
def asked() -> Any:
    """Stand for an operation of pyinfra's own, which tells nothing by itself."""
    yield "true"


def at(name: str, op_hash: str = "it") -> Any:
    """Return a host that is at an operation, and keeps what is logged of it."""
    logged: list[str] = []
    return SimpleNamespace(name=name, current_op_hash=op_hash, log=logged.append, logged=logged)


def begun(run: Run, which: Phase) -> str:
    """Begin a phase on every host."""
    hashes = {run.called(each.name, carried_out.phase, which) for each in FLEET.machines}
    [found] = hashes
    return found


def ended(run: Run, name: str, op_hash: str, *, good: bool) -> None:
    meta = run.state.ops[run.host(name)][op_hash].operation_meta
    meta.set_complete(good, ["true"], CommandOutput([]))


def test_nothing_is_told_to_nobody_and_a_persons_own_run_logs_it() -> None:
    host = at("backend-01")
    progress.event("phase", name="1 of 6: packages")
    progress.step_done(host, "nginx", changed=False)
    progress.step_done(host, "Receiver", changed=True)
    progress.failed(host, "Sudo rule")
    assert host.logged == ["done: Receiver", "failed: Sudo rule"]


def test_who_is_told_by_events_reads_nothing_of_it_in_the_log(events: Events) -> None:
    host = at("backend-01")
    progress.step_done(host, "Receiver", changed=True)
    progress.failed(host, "Sudo rule")
    assert host.logged == []
    assert [each["event"] for each in events()] == ["success", "error"]


def test_an_event_is_one_line_whatever_is_in_it(events: Events) -> None:
    progress.event("refused", text="one\ntwo")
    assert events() == [{"event": "refused", "text": "one\ntwo"}]


def test_how_files_would_change_is_told_in_a_dry_run_alone(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.would_write(at("balancer"), "/etc/x", "a\n", "b\n")
    progress.foresee(at("balancer"), [("it", "place file /etc/x")])
    assert events() == []
    monkeypatch.setenv("CERTSYNC_DRY", "1")
    progress.would_write(at("balancer"), "/etc/x", "a\n", "a\n")
    progress.would_write(at("balancer"), "/etc/x", "a\n", "b\n")
    progress.foresee(at("balancer"), [("one", "place file /etc/x"), ("two", "running nginx")])
    progress.foresee(at("balancer"), [])
    assert events() == [
        {"event": "file", "host": "balancer", "path": "/etc/x", "before": "a\n", "after": "b\n"},
        {"event": "script", "host": "balancer",
         "text": "# one\nplace file /etc/x\n# two\nrunning nginx"},
    ]  # fmt: skip


def test_a_phase_is_told_once_and_as_nothing_else(events: Events) -> None:
    run = Run(FLEET)
    op_hash = begun(run, FIRST)
    Progress.operation_start(run.state, op_hash)
    for host in run.state.inventory:
        Progress.operation_host_start(run.state, host, op_hash)
        ended(run, host.name, op_hash, good=True)
    Progress.operation_end(run.state, op_hash)
    assert events() == [{"event": "phase", "name": "1 of 2: packages"}]


def test_an_operation_begins_and_ends_on_the_hosts_that_have_it(events: Events) -> None:
    run = Run(FLEET)
    [op_hash] = {run.called(name, asked, name="Ask") for name in ("backend-01", "backend-02")}
    for host in run.state.inventory:
        Progress.operation_host_start(run.state, host, op_hash)
    ended(run, "backend-01", op_hash, good=True)
    ended(run, "backend-02", op_hash, good=False)
    Progress.operation_end(run.state, op_hash)
    assert events() == [
        {"event": "start", "host": "backend-01", "name": "Ask"},
        {"event": "start", "host": "backend-02", "name": "Ask"},
        {"event": "success", "host": "backend-01", "name": "Ask", "changed": True},
        {"event": "error", "host": "backend-02", "name": "Ask", "changed": False},
    ]


def test_one_that_a_failed_host_never_came_to_is_neither_good_nor_bad(events: Events) -> None:
    run = Run(FLEET)
    op_hash = run.called("backend-01", asked, name="Ask")
    Progress.operation_end(run.state, op_hash)
    assert events() == []


def test_an_operation_that_tells_of_its_steps_is_not_told_of_a_second_time(
    events: Events,
) -> None:
    run = Run(FLEET)
    op_hash = run.called("backend-01", asked, name="Backend")
    progress.foresee(at("backend-01", op_hash), [("nginx", "running nginx")])
    ended(run, "backend-01", op_hash, good=True)
    Progress.operation_end(run.state, op_hash)
    assert events() == []


def test_a_plan_names_steps_with_their_hosts_phase_by_phase(events: Events) -> None:
    run = Run(FLEET)
    begun(run, FIRST)
    for name, steps in (
        ("backend-03", [("Receiver", "x"), ("nginx", "y")]),
        ("backend-02", [("nginx", "y")]),
        ("backend-01", []),
        ("balancer", [("haproxy.cfg", "z")]),
    ):
        op_hash = run.called(name, asked, name="Backend")
        progress.foresee(at(name, op_hash), steps)
    begun(run, Phase(2, 2, "the certificate"))
    op_hash = run.called("backend-01", asked, name="Order the certificate")
    run.state.ops[run.host("backend-01")][op_hash].operation_meta._maybe_is_change = True
    # Of what is asked about and changes nothing, a plan says nothing.
    run.called("backend-01", asked, name="Share session ticket keys")
    progress._foretell(run.state)
    [plan] = events()
    begin, *steps_of, middle, last = plan["operations"]
    assert (begin, middle) == ({"phase": "1 of 2: packages"}, {"phase": "2 of 2: the certificate"})
    assert last == {"name": "Order the certificate", "hosts": ["backend-01"]}
    assert sorted(steps_of, key=lambda each: str(each["name"])) == [
        {"name": "Receiver", "hosts": ["backend-03"]},
        {"name": "haproxy.cfg", "hosts": ["balancer"]},
        {"name": "nginx", "hosts": ["backend-02", "backend-03"]},
    ]


def test_an_operation_is_called_by_its_own_name_wherever_it_stands() -> None:
    run = Run(FLEET)
    with run.host("backend-01").deploy("Issuer: certificate", None, None):
        op_hash = run.called("backend-01", asked, name="Order the certificate")
    assert run.state.get_op_meta(op_hash).names != {"Order the certificate"}
    assert progress._name(run.state, op_hash) == "Order the certificate"


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what a run would have going on behind it, and begin none of it."""
    found: list[Any] = []

    def thread(*, target: Any, args: Any, **_: Any) -> Any:
        return SimpleNamespace(start=lambda: found.append((target, *args)))

    monkeypatch.setattr(progress, "Thread", thread)
    monkeypatch.setattr("atexit.register", lambda *each: found.append(each))
    return found


def test_who_is_not_reached_is_told_once_and_who_is_not_asked_for_is_not_missed(
    events: Events, begins: list[Any]
) -> None:
    run = Run(FLEET, unreached=["backend-02", "backend-03"])
    run.state.limit_hosts = [run.host(name) for name in ("backend-01", "backend-02")]
    for _ in range(3):
        progress.report(run.state)
    assert events() == [{"event": "unreached", "hosts": ["backend-02"]}]
    # It ends with the command that started it, and says at its end what it would have done.
    assert begins == [(progress._end_with, os.getppid())]


def test_a_dry_run_says_at_its_end_what_would_be_done(
    events: Events, begins: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTSYNC_DRY", "1")
    run = Run(FLEET)
    progress.report(run.state)
    assert (progress._foretell, run.state) in begins
    assert events() == [{"event": "unreached", "hosts": []}]


def test_a_run_that_nobody_waits_for_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit) as caught:
        progress._end_with(os.getppid() + 1)
    assert caught.value.code == 1

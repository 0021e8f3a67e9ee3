"""What a host is like is asked once, and again only after something was written there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest
from pyinfra.api.exceptions import PyinfraError

from certsync.operator.hosts.survey import Survey
from deploy import surveys
from tests.unit.fake_fleet import fleet
from tests.unit.fake_run import Run

FLEET = fleet()


def test_a_host_is_asked_once_and_again_after_it_was_written_to() -> None:
    run = Run(FLEET, {"backend-01": Survey(libc="2.36")})
    host = run.host("backend-01")
    assert [surveys.of(host).libc, surveys.of(host).libc] == ["2.36", "2.36"]
    assert len(run.asked) == 1
    run.like["backend-01"] = Survey(libc="2.41")
    surveys.forget(run.host("backend-02"))
    assert surveys.of(host).libc == "2.36"
    surveys.forget(host)
    assert surveys.of(host).libc == "2.41"


def test_all_hosts_that_are_reached_are_asked_at_the_same_time() -> None:
    # Each answers only once the other two have been asked.
    asked, all_asked = set(), gevent.event.Event()

    class Waiting:
        def __init__(self, name: str) -> None:
            self.name = name

        def get_fact(self, *_: Any, **__: Any) -> Survey:
            asked.add(self.name)
            if len(asked) == 3:
                all_asked.set()
            assert all_asked.wait(2)
            return Survey(libc=self.name)

    hosts: list[Any] = [Waiting(name) for name in ("a", "b", "c")]
    state: Any = SimpleNamespace(activated_hosts=hosts)
    surveys.ask_all(state)
    assert [surveys.of(each).libc for each in hosts] == ["a", "b", "c"]


def test_a_host_that_is_not_reached_is_not_asked() -> None:
    run = Run(FLEET, unreached=["backend-02", "balancer"])
    surveys.ask_all(run.state)
    assert sorted(run.asked) == [("backend-01", "look"), ("backend-03", "look")]


def test_a_question_that_fails_fails_the_run_and_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(FLEET)
    host = run.host("backend-01")

    def fail(*_: Any, **__: Any) -> Survey:
        raise PyinfraError("no answer")

    with monkeypatch.context() as for_now:
        for_now.setattr(host, "get_fact", fail)
        with pytest.raises(PyinfraError, match="no answer"):
            surveys.ask_all(run.state)
    assert surveys.of(host) == Survey()


def test_what_a_host_says_is_read_as_a_survey() -> None:
    assert surveys.Look().process(["libc 2.41", "nonsense", "works yes"]) == Survey(
        libc="2.41", certsync_works=True
    )

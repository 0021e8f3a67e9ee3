"""What the issuer is asked, how often, and what becomes of an answer that is none."""

from __future__ import annotations

import subprocess
from typing import Any

import gevent
import pytest
from pyinfra.api.exceptions import PyinfraError

from certsync.model.answers import Proven
from certsync.model.paths import CERTSYNC
from deploy import answers
from tests.unit.fake_fleet import NAME, fleet
from tests.unit.fake_run import Run

FLEET = fleet()
ISSUER = "backend-01"
OUTLOOK = "outlook issue replicate tickets prove"


def issuing(**says: Any) -> Run:
    return Run(FLEET, says={ISSUER: {OUTLOOK: says}})


def asked(run: Run) -> list[str]:
    return [question for _, question in run.asked]


def test_one_question_answers_for_all_that_a_deploy_does_there() -> None:
    run = issuing(issue=["order"], replicate=[], tickets=[1, "two"], prove={})
    host = run.host(ISSUER)
    found = [answers.steps(host, verb) for verb in ("issue", "replicate", "tickets")]
    assert found == [["order"], [], ["1", "two"]]
    assert answers.proven(host, FLEET) == Proven(proofs={NAME: {}})
    assert asked(run) == [OUTLOOK]


def test_after_something_was_done_only_what_comes_behind_it_is_asked_about() -> None:
    run = issuing(issue=["order"])
    host = run.host(ISSUER)
    answers.steps(host, "issue")
    answers.forget()
    run.says[ISSUER]["outlook replicate tickets prove"] = {"replicate": ["send"]}
    assert answers.steps(host, "replicate") == ["send"]
    assert asked(run) == [OUTLOOK, "outlook replicate tickets prove"]


def test_a_verb_with_options_and_one_beside_the_road_are_asked_about_by_themselves() -> None:
    run = Run(FLEET, says={ISSUER: {"register --dry-run --json": {"steps": ["register"]}}})
    host = run.host(ISSUER)
    assert answers.steps(host, "register") == ["register"]
    assert answers.steps(host, "replicate --missed backend-02") is None
    assert asked(run) == [
        "register --dry-run --json", "replicate --missed backend-02 --dry-run --json"
    ]  # fmt: skip


@pytest.mark.parametrize("said", [{}, {"issue": None}, {"issue": "order"}, {"issue": {"a": 1}}])
def test_what_is_no_list_of_steps_is_not_the_same_as_nothing_to_do(said: dict[str, Any]) -> None:
    assert answers.steps(issuing(**said).host(ISSUER), "issue") is None


@pytest.mark.parametrize("said", [5, [], {"proofs": 5}, {"state": {"runs": [1]}}])
def test_nonsense_in_place_of_what_was_proven_leaves_everything_as_it_is(said: Any) -> None:
    run = Run(FLEET, says={ISSUER: {"outlook prove": {"prove": said}}})
    assert answers.proven(run.host(ISSUER), FLEET) == Proven()
    assert asked(run) == ["outlook prove"]


def test_an_issuer_is_asked_ahead_once_and_whoever_needs_the_answer_has_it() -> None:
    run = issuing(issue=["order"])
    host = run.host(ISSUER)
    for _ in range(3):
        answers.ask_ahead(host)
    assert run.asked == []
    gevent.sleep(0)
    assert answers.steps(host, "issue") == ["order"]
    assert asked(run) == [OUTLOOK]


def test_an_issuer_that_is_not_reached_is_not_asked_ahead() -> None:
    run = Run(FLEET, unreached=[ISSUER])
    answers.ask_ahead(run.host(ISSUER))
    gevent.sleep(0)
    assert run.asked == []


def test_who_needs_an_answer_that_did_not_come_asks_again_and_is_told_why(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(FLEET)
    host, count = run.host(ISSUER), 0

    def fail(*_: Any, **__: Any) -> Any:
        nonlocal count
        count += 1
        raise PyinfraError("no answer")

    monkeypatch.setattr(host, "get_fact", fail)
    answers.ask_ahead(host)
    gevent.sleep(0)
    # What nobody waits for yet is no traceback on the operator's terminal.
    assert (count, capfd.readouterr().err) == (1, "")
    with pytest.raises(PyinfraError, match="no answer"):
        answers.steps(host, "issue")


def test_all_balancers_wait_for_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(FLEET, says={ISSUER: {"outlook prove": {"prove": {"current": "0007"}}}})
    host = run.host(ISSUER)
    answer = host.get_fact

    def slow(*args: Any, **arguments: Any) -> Any:
        gevent.sleep(0.01)
        return answer(*args, **arguments)

    monkeypatch.setattr(host, "get_fact", slow)
    asking = [gevent.spawn(answers.proven, host, FLEET) for _ in range(20)]
    gevent.joinall(asking, raise_error=True)
    assert {each.value and each.value.current for each in asking} == {"0007"}
    assert asked(run) == ["outlook prove"]


def test_a_command_that_fails_on_the_issuer_is_an_answer_and_no_failure_of_the_host() -> None:
    command = answers.Answer().command("issue --dry-run --json").replace(CERTSYNC, "false")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert answers.Answer().process([]) == {}


def test_an_answer_may_go_over_several_lines_and_what_else_is_printed_makes_it_none() -> None:
    fact = answers.Answer()
    assert fact.process(["{", ' "steps": []', "}"]) == {"steps": []}
    assert fact.process(["Welcome!", '{"steps": []}']) == {}

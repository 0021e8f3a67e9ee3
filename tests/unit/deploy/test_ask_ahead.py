"""An issuer that is asked ahead: what it says counts only while nothing is done there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from deploy import answers


class Issuer:
    """An issuer that answers when it is let, and then what is so by then."""

    connected = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.due: list[str] = []
        self.asked: list[str] = []
        self.may_answer = gevent.event.Event()

    def get_fact(self, _fact: object, *, words: str, **_: object) -> dict[str, Any]:
        """Return what was so when it was asked, once it may."""
        self.asked.append(words)
        due = list(self.due)
        self.may_answer.wait()
        return dict.fromkeys(words.split()[1:], due)


@pytest.fixture
def issuer(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = Issuer(request.node.name)
    yield made
    answers.forget()


def test_what_was_asked_ahead_is_not_asked_again(issuer: Any) -> None:
    answers.ask_ahead(issuer)
    answers.ask_ahead(issuer)
    issuer.may_answer.set()
    assert answers.steps(issuer, "issue") == []
    assert answers.steps(issuer, "replicate") == []
    assert issuer.asked == ["outlook issue replicate tickets prove"]


def test_what_was_asked_before_something_was_done_and_is_answered_after_it_does_not_count(
    issuer: Any,
) -> None:
    answers.ask_ahead(issuer)
    gevent.sleep(0)
    assert len(issuer.asked) == 1
    # A step has brought it another fleet, by which an order is due.
    issuer.due = ["another key type"]
    answers.forget()
    issuer.may_answer.set()
    assert answers.steps(issuer, "issue") == ["another key type"]
    assert len(issuer.asked) == 2


def test_one_that_is_not_reached_is_not_asked_ahead(issuer: Any) -> None:
    issuer.connected = False
    answers.ask_ahead(issuer)
    gevent.sleep(0)
    assert issuer.asked == []


def test_one_that_says_nothing_is_asked_no_more_than_anybody_wants_to_know(issuer: Any) -> None:
    issuer.get_fact = lambda _fact, *, words, **_: issuer.asked.append(words) or {}
    assert answers.steps(issuer, "issue") is None
    assert answers.steps(issuer, "tickets") is None
    assert len(issuer.asked) == 1


def test_nobody_asks_on_and_on_while_nobody_waits_for_an_answer(issuer: Any) -> None:
    answers.ask_ahead(issuer)
    gevent.sleep(0)
    for _ in range(5):
        answers.forget()
    issuer.may_answer.set()
    gevent.sleep(0.01)
    assert len(issuer.asked) == 1

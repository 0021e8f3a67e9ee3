"""A slow machine holds up the others for a few seconds, in all steps of a command together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from certsync.system import patience
from certsync.system.patience import LATE, Patience


@dataclass(frozen=True)
class Machine:
    name: str


MACHINES = [Machine(f"backend-{number:02}") for number in range(1, 41)]
ONE, OTHERS = MACHINES[0], MACHINES[1:]


@pytest.fixture
def freezes() -> Iterator[threading.Event]:
    """Return what a frozen machine waits for; it is set at the end."""
    event = threading.Event()
    yield event
    event.set()


def frozen(event: threading.Event, *names: str) -> Callable[[Machine], str]:
    def work(machine: Machine) -> str:
        if machine.name in names:
            assert event.wait(30)
        return machine.name

    return work


@pytest.mark.parametrize("count", [2, 3, 40])
def test_the_others_wait_for_a_frozen_machine_once(freezes: threading.Event, count: int) -> None:
    waiting = Patience(0.4)
    work = frozen(freezes, ONE.name)
    for _ in range(4):
        found = waiting.each(work, MACHINES[:count])
        assert found == [(ONE, LATE), *((each, each.name) for each in MACHINES[1:count])]
    assert waiting.late == {ONE.name}


def test_who_is_late_is_not_asked_again_until_its_answer_is_there(
    freezes: threading.Event,
) -> None:
    waiting = Patience(0.1)
    waiting.each(frozen(freezes, ONE.name), MACHINES[:3])
    assert not waiting.settle(ONE.name, 0)
    freezes.set()
    assert waiting.settle(ONE.name, 10)
    assert waiting.late == frozenset()
    assert waiting.settle("backend-99", 0)


def test_time_that_one_step_has_taken_is_gone_for_the_next_ones() -> None:
    waiting = Patience(1.0)

    def work(machine: Machine) -> None:
        time.sleep(0.9 * (machine == ONE))

    waiting.each(work, MACHINES[:3])
    assert waiting.late == frozenset()
    assert waiting.left == pytest.approx(1.0 - 0.9 + patience.USUAL, abs=0.2)


def test_as_many_frozen_machines_as_are_asked_at_once_keep_no_other_from_its_turn(
    freezes: threading.Event,
) -> None:
    first = [each.name for each in MACHINES[:16]]
    found = Patience(0.2).each(frozen(freezes, *first), MACHINES)
    # Half of them have to be done before anybody is late.
    assert {each.name for each, answer in found if answer == LATE} == set(first)


def test_machines_that_all_take_long_are_waited_for() -> None:
    def work(machine: Machine) -> str:
        time.sleep(0.6)
        return machine.name

    found = Patience(0.0).each(work, MACHINES[:4])
    assert [answer for _, answer in found] == [each.name for each in MACHINES[:4]]


def test_the_issuers_own_answer_is_waited_for_as_long_as_it_takes() -> None:
    def work(machine: Machine) -> str:
        time.sleep(0.8 * (machine == ONE))
        return machine.name

    found = Patience(0.0).each(work, MACHINES[:3], always=[ONE.name])
    assert [answer for _, answer in found] == [each.name for each in MACHINES[:3]]


def test_an_error_is_raised() -> None:
    def work(machine: Machine) -> str:
        raise OSError(machine.name)

    with pytest.raises(OSError, match=ONE.name):
        Patience().each(work, MACHINES[:2])
    assert Patience().each(work, []) == []

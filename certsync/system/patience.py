"""Waiting for many machines at once, without a slow one holding up the others for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from certsync.system.parallel import AT_ONCE

SECONDS = 6.0
"""How long the others wait for slow machines, in all steps of a command together."""

USUAL = 0.5
"""By how many seconds machines differ without being slow."""


SLOT_SECONDS = 2.0
"""After which a machine no longer counts as one of those asked at once: it only waits."""


class Named(Protocol):
    """Something with a machine's name."""

    @property
    def name(self) -> str:
        """The machine's name."""
        ...


Item = TypeVar("Item", bound=Named)
Result = TypeVar("Result")


class Late:
    """Stands for the answer of a machine that the others no longer wait for."""


LATE = Late()


@dataclass
class Task:
    """One machine's work in a step."""

    name: str
    began: float = 0
    """When it began, by the monotonic clock; 0: it has not."""

    seconds: float = 0
    """How long it took; 0: it has not ended."""

    has_slot: bool = False


@dataclass
class Patience:
    """How long the others wait in one command, and which machines they no longer wait for."""

    left: float = SECONDS
    _late: dict[str, Future[Any]] = field(default_factory=dict)

    @property
    def late(self) -> frozenset[str]:
        """The machines that the others no longer wait for."""
        return frozenset(self._late)

    def each(
        self, work: Callable[[Item], Result], items: Sequence[Item], always: Collection[str] = ()
    ) -> list[tuple[Item, Result | Late]]:
        """Return the result of ``work`` for each item, in order.

        An item is late if it takes much longer than the faster half, and time is up; its work goes
        on, see `settle`. Items that are late already are not worked on. Those in ``always`` are
        waited for as long as it takes. The first error is raised.
        """
        step = _Step[Item, Result](self, work, always)
        futures = step.start([each for each in items if each.name not in self._late])
        step.finish()
        return [
            (each, LATE if each.name in self._late else futures[each.name].result())
            for each in items
        ]

    def settle(self, name: str, seconds: float) -> bool:
        """Wait until what a late machine was asked last has ended; it may be asked again then.

        Return whether it has, within ``seconds``.
        """
        future = self._late.get(name)
        if future is not None and not wait([future], seconds).done:
            return False
        self._late.pop(name, None)
        return True

    def give_up(self, task: Task, future: Future[Any]) -> None:
        """Wait for a machine no longer."""
        self._late[task.name] = future


class _Step(Generic[Item, Result]):
    """One thing that all machines are asked."""

    def __init__(
        self, patience: Patience, work: Callable[[Item], Result], always: Collection[str]
    ) -> None:
        self._patience, self._work, self._always = patience, work, always
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._guard = threading.Lock()
        self._tasks: dict[Future[Result], Task] = {}

    def start(self, items: Sequence[Item]) -> dict[str, Future[Result]]:
        if not items:
            return {}
        # One thread each: those that wait for a slow machine must not keep others from starting.
        pool = ThreadPoolExecutor(len(items))
        for item in items:
            task = Task(item.name)
            self._tasks[pool.submit(self._run, task, item)] = task
        pool.shutdown(wait=False)
        return {task.name: future for future, task in self._tasks.items()}

    def _run(self, task: Task, item: Item) -> Result:
        self._slots.acquire()
        task.began, task.has_slot = time.monotonic(), True
        try:
            return self._work(item)
        finally:
            task.seconds = time.monotonic() - task.began
            self._release(task)

    def _release(self, task: Task) -> None:
        with self._guard:
            if task.has_slot:
                task.has_slot = False
                self._slots.release()

    def finish(self) -> None:
        """Wait until all are done or late."""
        pending = set(self._tasks)
        half = len(pending) // 2
        base = 0.0
        while pending:
            done = [task.seconds for task in self._tasks.values() if task.seconds]
            if is_half_done := len(done) >= half:
                base = sorted(done)[half - 1] if half else 0.0
                self._give_up_overdue(pending, self._allowed(base))
            if pending:
                seconds = self._seconds(pending, self._allowed(base) if is_half_done else None)
                _, pending = wait(pending, seconds, FIRST_COMPLETED)
        longest = max((self._lasted(task) for task in self._tasks.values()), default=0.0)
        self._patience.left = max(0.0, self._patience.left - max(0.0, longest - base - USUAL))

    def _allowed(self, base: float) -> float:
        """Return how many seconds a machine may take, if the faster half took ``base``."""
        return base + max(self._patience.left, base / 2 + USUAL)

    def _lasted(self, task: Task) -> float:
        return 0 if task.name in self._always else task.seconds or time.monotonic() - task.began

    def _give_up_overdue(self, pending: set[Future[Result]], allowed: float) -> None:
        """Give up those that have taken longer than allowed."""
        now = time.monotonic()
        for future in [*pending]:
            task = self._tasks[future]
            is_overdue = task.began and now >= task.began + allowed and not future.done()
            if is_overdue and task.name not in self._always:
                pending.discard(future)
                self._patience.give_up(task, future)

    def _seconds(self, pending: set[Future[Result]], allowed: float | None) -> float:
        """Return the seconds until something is to be decided; let others begin meanwhile."""
        now, coming = time.monotonic(), [SLOT_SECONDS]
        for task in (self._tasks[future] for future in pending):
            if task.has_slot and now >= task.began + SLOT_SECONDS:
                self._release(task)
            if task.began and allowed is not None and task.name not in self._always:
                coming.append(task.began + allowed - now)
        return max(0.0, min(coming))

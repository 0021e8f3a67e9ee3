"""One time limit for an operation that waits several times."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


class Deadline:
    """The moment at which to give up."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: none are left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete answer within {self.seconds:g} s")
        return left


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return the work's result, and wait for it no longer than that.

    For work without a time limit of its own. Abandoned work continues in the background, at the
    latest until the process ends.

    Raises:
        TimeoutError: it takes longer.
        Exception: whatever the work raises.
    """
    outcome: SimpleQueue[Callable[[], Result]] = SimpleQueue()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # raised again for the caller
            failure = error

            def fail() -> Result:
                raise failure

            outcome.put(fail)
        else:
            outcome.put(lambda: result)

    Thread(target=run, daemon=True).start()
    try:
        return outcome.get(timeout=seconds)()
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None

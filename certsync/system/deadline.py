"""One limit of time over the whole of something, however many waits it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


class Deadline:
    """The moment at which something is given up."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then.

        Raises:
            TimeoutError: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self.seconds:g} s")
        return left


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what the work returns, and do not wait for it longer than that.

    It is for work that takes no limit of its own. What is given up goes on in the background, and
    ends with the process at the latest.

    Raises:
        TimeoutError: it takes longer.
        Exception: whatever the work raises.
    """
    ended: SimpleQueue[Callable[[], Result]] = SimpleQueue()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # it is raised where the work is waited for
            failure = error

            def fail() -> Result:
                raise failure

            ended.put(fail)
        else:
            ended.put(lambda: result)

    Thread(target=run, daemon=True).start()
    try:
        return ended.get(timeout=seconds)()
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None

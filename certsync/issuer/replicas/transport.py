"""How a generation gets from the issuer to the other backends: an interface with one push."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from certsync.issuer.replicas import replicate
from certsync.issuer.replicas.replicate import Outcome
from certsync.issuer.run import Run
from certsync.issuer.situation import Situation
from certsync.model.fleet import Fleet
from certsync.model.proof import Proof


class Transport(Protocol):
    """A way to bring the newest generation to every backend that holds the lineage."""

    def outlook(
        self, seen: Situation, now: datetime, proven: Callable[[], Sequence[Proof]] | None = None
    ) -> list[str]:
        """Return what to do, in words, without changing anything.

        ``proven`` returns fresh proofs; None: probe the backends now.

        Raises:
            StoreError: the roots cannot be read.
        """
        ...

    def roll_out(self, run: Run) -> Outcome:
        """Roll it out, and return what each backend serves then.

        Raises:
            FencedError: this machine may no longer be the issuer.
            VetoError: it may not go live.
            StoreError: nothing has been issued, or the store cannot be read.
        """
        ...


def of(_fleet: Fleet) -> Transport:
    """Return the fleet's transport: a push over SSH."""
    return replicate

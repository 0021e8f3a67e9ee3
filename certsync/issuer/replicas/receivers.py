"""Several backends' receivers at once: their connections, what each says, and who is late."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from certsync.issuer.replicas.backend import Backend
from certsync.issuer.replicas.outgoing import open_runtime
from certsync.issuer.replicas.rollout import Standing
from certsync.model.errors import HostError, UnreachableError
from certsync.model.fleet import Fleet, Machine
from certsync.system import parallel
from certsync.system.patience import Late, Patience

Result = TypeVar("Result")


def backends(
    fleet: Fleet, hosts: Iterable[Machine], clock_off: timedelta = timedelta(0)
) -> list[Backend]:
    """Return the receivers of the issuer, first, and of these hosts."""
    issuer = Backend(fleet.issuer, local=True, clock_off=clock_off)
    replicas = [machine for machine in hosts if machine != fleet.issuer]
    return [issuer, *(Backend(machine, local=False) for machine in replicas)]


@contextmanager
def connected(
    fleet: Fleet,
    hosts: Iterable[Machine],
    *,
    end_seconds: float = 5,
    clock_off: timedelta = timedelta(0),
) -> Iterator[list[Backend]]:
    """Yield these hosts' receivers; no conversation outlives the block.

    ``end_seconds``: how long each may take to end by itself; 0 if none was asked for a change.
    ``clock_off``: how far this machine's clock is ahead of the time that the run goes by.
    """
    open_runtime()
    among = backends(fleet, hosts, clock_off)
    try:
        yield among
    finally:
        for one in among:
            one.finish()
            one.close_stdin()
        for one in among:
            one.close(end_seconds)


SLOW = "it is slow to answer, so the others did not wait for it"


def each(
    work: Callable[[Backend], Result],
    among: Sequence[Backend],
    patience: Patience | None = None,
) -> list[tuple[Backend, Result | HostError]]:
    """Return the result of ``work`` or its error for each backend, many at once.

    With ``patience``, a slow replica is given up after a while, and counts as unreachable.
    """

    def guarded(backend: Backend) -> Result | HostError:
        try:
            return work(backend)
        except HostError as error:
            return error

    if patience is not None:
        own = [one.name for one in among if one.local]
        return [
            (one, UnreachableError(SLOW, host=one.name) if isinstance(found, Late) else found)
            for one, found in patience.each(guarded, among, own)
        ]
    pool = ThreadPoolExecutor(parallel.AT_ONCE)
    try:
        return list(zip(among, pool.map(guarded, among), strict=True))
    finally:
        # An interrupted run does not wait for answers: `connected` ends the conversations.
        pool.shutdown(wait=False, cancel_futures=True)


def standings(
    lineage: str, among: Sequence[Backend], patience: Patience | None = None
) -> list[Standing]:
    """Return what each backend says it has; many are asked at once: see `each`."""
    found = each(lambda one: one.standing(lineage), among, patience)
    return [
        answer if isinstance(answer, Standing) else backend.unheard(answer)
        for backend, answer in found
    ]

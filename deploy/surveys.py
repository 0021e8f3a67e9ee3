"""One look at a host: asked once, kept, and asked again only after something was written there."""

from __future__ import annotations

from gevent import joinall, spawn
from gevent.lock import RLock
from pyinfra.api import FactBase, Host, State

from certsync.operator.hosts import survey
from certsync.operator.hosts.survey import Survey


class Look(FactBase[Survey]):
    """What a host is like."""

    def command(self) -> str:
        """Return the script."""
        return survey.script()

    def process(self, output: list[str]) -> Survey:
        """Return what it says."""
        return survey.parse(output)

    @staticmethod
    def default() -> Survey:
        """Return what is known of a host that does not answer."""
        return Survey()


SECONDS = 300
"""For one look, at a host that is busy with something else."""

_seen: dict[str, Survey] = {}
_asking: dict[str, RLock] = {}


def of(host: Host) -> Survey:
    """Return what a host is like; of one that does not answer, nothing is known."""
    # Replicas ask what the issuer is like all at once.
    with _asking.setdefault(host.name, RLock()):
        if host.name not in _seen:
            _seen[host.name] = host.get_fact(Look, _timeout=SECONDS)
        return _seen[host.name]


def forget(host: Host) -> None:
    """Have a host asked again, the next time that somebody wants to know."""
    _seen.pop(host.name, None)


def ask_all(state: State) -> None:
    """Ask all hosts of a run that are reached at the same time."""
    # Not from the pool of pyinfra: the runs of the deploy file that wait here have filled it.
    asked = [spawn(of, host) for host in state.activated_hosts]
    joinall(asked, raise_error=True)

"""Surveys of hosts: each taken once, kept, and taken again only after something was changed."""

from __future__ import annotations

from gevent import joinall, spawn
from gevent.lock import RLock
from pyinfra.api import FactBase, Host, State

from certsync.operator.hosts import survey
from certsync.operator.hosts.survey import Survey


class Look(FactBase[Survey]):
    """A host's survey."""

    def command(self) -> str:
        """Return the script."""
        return survey.script()

    def process(self, output: list[str]) -> Survey:
        """Parse the survey."""
        return survey.parse(output)

    @staticmethod
    def default() -> Survey:
        """Return an empty survey, for a host that does not answer."""
        return Survey()


SECONDS = 300
"""The limit for one survey, of a host that is busy with something else."""

_seen: dict[str, Survey] = {}
_asking: dict[str, RLock] = {}


def of(host: Host) -> Survey:
    """Return a host's survey; an empty one if it does not answer."""
    # Replicas need the issuer's survey all at once.
    with _asking.setdefault(host.name, RLock()):
        if host.name not in _seen:
            _seen[host.name] = host.get_fact(Look, _timeout=SECONDS)
        return _seen[host.name]


def forget(host: Host) -> None:
    """Discard a host's survey, so that it is taken again when needed."""
    _seen.pop(host.name, None)


def ask_all(state: State) -> None:
    """Survey all reached hosts of a run at the same time."""
    # Not in pyinfra's pool: it is full of runs of the deploy file that wait here.
    asked = [spawn(of, host) for host in state.activated_hosts]
    joinall(asked, raise_error=True)

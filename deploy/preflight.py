"""Before anything is changed anywhere: is every host ours to change?"""

from __future__ import annotations

from gevent.lock import RLock
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError

from certsync import gate, look
from certsync.fleet import Fleet
from certsync.look import Adopt, Objection
from deploy.balancer import CONFIGURATION
from deploy.facts import Standing, Text
from deploy.progress import event

NOBODY_LEFT = "nobody who serves {} now is to serve it any more"
TWO_DEPLOYS = (
    "the others are let in when they are proven, at the end of a deploy: name them in served_by "
    "beside those that are there, deploy, and take the old ones out with another deploy"
)

_lock = RLock()
_looked_at: set[int] = set()


def refuse_foreign_servers(
    state: State, fleet: Fleet, adopt: Adopt, *, promoting: bool = False
) -> None:
    """Look at every host that is reached, and stop the whole run if one is somebody else's.

    ``promoting``: one that has been the issuer is about to be it no more.

    Raises:
        PyinfraError: with all objections, before pyinfra has run any operation.
    """
    with _lock:
        if id(state) in _looked_at:
            return
        found = []
        for host in state.activated_hosts:
            seen = host.get_fact(Standing)
            if host.data.machine in fleet.balancers:
                found += _of_pools(fleet, host)
            if seen is not None:
                found += look.objections(fleet, host.data.machine, seen, adopt, promoting=promoting)
        if found:
            found.sort(key=lambda each: each.host)
            event("refused", text=look.describe(found))
            raise PyinfraError(f"nothing was changed on any host:\n{look.describe(found)}")
        _looked_at.add(id(state))


def _of_pools(fleet: Fleet, host: Host) -> list[Objection]:
    """Return the lineages that nobody would serve while a deploy is under way."""
    before = gate.read(host.get_fact(Text, path=CONFIGURATION))
    return [
        Objection(host.name, NOBODY_LEFT.format(lineage), TWO_DEPLOYS)
        for lineage in gate.abandoned(fleet, before)
    ]

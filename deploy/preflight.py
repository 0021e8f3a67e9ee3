"""Before anything is changed anywhere: is every host ours to change?"""

from __future__ import annotations

from gevent.lock import RLock
from pyinfra.api import State
from pyinfra.api.exceptions import PyinfraError

from certsync import look
from certsync.fleet import Fleet
from certsync.look import Adopt
from deploy.facts import Standing
from deploy.progress import event

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
            if seen is not None:
                found += look.objections(fleet, host.data.machine, seen, adopt, promoting=promoting)
        if found:
            found.sort(key=lambda each: each.host)
            event("refused", text=look.describe(found))
            raise PyinfraError(f"nothing was changed on any host:\n{look.describe(found)}")
        _looked_at.add(id(state))

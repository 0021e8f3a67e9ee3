"""Before anything is changed anywhere: is every host ours to change?"""

from __future__ import annotations

from gevent.lock import RLock
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError

from certsync.model.errors import StoreError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.model.paths import IssuerPaths
from certsync.operator.balancer import gate
from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import Adopt
from deploy import surveys
from deploy.balancer import CONFIGURATION
from deploy.progress import event

NOBODY_LEFT = "nobody who serves {} now is to serve it any more"
TWO_DEPLOYS = (
    "the others are let in when they are proven, at the end of a deploy: name them in served_by "
    "beside those that are there, deploy, and take the old ones out with another deploy"
)

UNCOVERED = (
    "{} would be without a certificate until {} has one for it: a lineage is known by its first "
    "name, and what it has is for the names that it had"
)
KEEP_FIRST = (
    "keep each name in its lineage, and the first one first; or, if nobody may come meanwhile: "
    "`certsync passthrough off`, deploy, `certsync passthrough on`, and deploy again"
)
NOT_REACHED = (
    "it is not reached, and would go on sending connections to a port or a site that the backends "
    "are about to take away"
)
BRING_BACK = "bring it back first, or take it out of the fleet file if it is gone for good"
DEPLOYED = str(IssuerPaths().fleet_file)

_lock = RLock()
_unreached: dict[int, list[Host]] = {}
_no_longer_trusted: dict[int, list[str]] = {}
"""For each run, the balancers of `letting_go`, and of `no_longer_trusted`."""


def refuse_foreign_servers(
    state: State, fleet: Fleet, adopt: Adopt, *, promoting: bool = False
) -> None:
    """Look at every host that is reached, and stop the whole run if one is somebody else's.

    ``promoting``: another backend is about to become the issuer.

    Raises:
        PyinfraError: with all objections, before pyinfra has run any operation.
    """
    with _lock:
        if id(state) in _unreached:
            return
        surveys.ask_all(state)
        deployed = _deployed(state, fleet)
        found = _not_reached(state, fleet, deployed)
        for host in state.activated_hosts:
            seen, machine = surveys.of(host), host.data.machine
            if machine in fleet.balancers:
                found += _of_pools(fleet, deployed, host)
            found += facts.objections(fleet, machine, seen.facts, adopt, promoting=promoting)
        if found:
            found.sort(key=lambda each: each.host)
            event("refused", text=facts.describe(found))
            raise PyinfraError(f"nothing was changed on any host:\n{facts.describe(found)}")
        _no_longer_trusted[id(state)] = gate.no_longer_trusted(fleet, deployed) if deployed else []
        _unreached[id(state)] = _sending_there(state, fleet, deployed)


def letting_go(state: State) -> list[Host]:
    """Return the balancers that send to what the backends are about to take away.

    They stop it first; what fails on one of them has to keep the backends as they are.
    """
    return _unreached[id(state)]


def no_longer_trusted(state: State) -> list[str]:
    """Return the balancers whose address the backends are about to stop trusting."""
    return _no_longer_trusted[id(state)]


def _sending_there(state: State, fleet: Fleet, deployed: Fleet | None) -> list[Host]:
    if deployed is None or not gate.takes_away(fleet, deployed):
        return []
    known = {host.name for host in deployed.balancers}
    return [
        host
        for host in state.activated_hosts
        if host.data.machine in fleet.balancers and host.name in known
    ]


def _deployed(state: State, fleet: Fleet) -> Fleet | None:
    """Return the fleet as the issuer has it; None: it has none, or is not to be asked."""
    for host in state.activated_hosts:
        text = surveys.of(host).text(DEPLOYED) if host.name == fleet.issuer_name else ""
        if text:
            try:
                return Fleet.from_json(text)
            except StoreError:
                # Of a newer version; whoever works on it next says so.
                return None
    return None


def _not_reached(state: State, fleet: Fleet, deployed: Fleet | None) -> list[Finding]:
    if deployed is None or not gate.takes_away(fleet, deployed):
        return []
    reached = {host.name for host in state.activated_hosts}
    known = {host.name for host in deployed.balancers}
    return [
        Finding(each.name, NOT_REACHED, BRING_BACK)
        for each in fleet.balancers
        if each.name in known - reached
    ]


def _of_pools(fleet: Fleet, deployed: Fleet | None, host: Host) -> list[Finding]:
    """Return the lineages that nobody would serve while a deploy is under way."""
    before = gate.read(surveys.of(host).text(CONFIGURATION))
    found = [
        Finding(host.name, NOBODY_LEFT.format(lineage), TWO_DEPLOYS)
        for lineage in gate.abandoned(fleet, before)
    ]
    uncovered = gate.uncovered(fleet, deployed, before) if deployed else {}
    return found + [
        Finding(host.name, UNCOVERED.format(", ".join(names), lineage), KEEP_FIRST)
        for lineage, names in uncovered.items()
    ]

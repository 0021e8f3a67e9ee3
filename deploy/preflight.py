"""Checks before anything is changed: is every host ours to change?"""

from __future__ import annotations

from gevent.lock import RLock
from pyinfra.api import Host, State
from pyinfra.api.exceptions import PyinfraError

from certsync.model.errors import StoreError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.model.paths import IssuerPaths
from certsync.operator.balancer import gate
from certsync.operator.balancer.outage import outages
from certsync.operator.hosts import epochs, host_keys, objections
from certsync.operator.hosts.facts import Adopt
from deploy import surveys
from deploy.balancer import CONFIGURATION
from deploy.progress import event

NOT_REACHED = (
    "it cannot be reached, and would keep sending connections to a port or a site that the "
    "backends are about to remove"
)
BRING_BACK = "bring it back first, or remove it from the fleet file if it no longer exists"
DEPLOYED = str(IssuerPaths().fleet_file)

_lock = RLock()
_unreached: dict[int, list[Host]] = {}
_no_longer_trusted: dict[int, list[str]] = {}
"""For each run, the result of `letting_go`, and of `no_longer_trusted`."""


def refuse_foreign_servers(
    state: State, fleet: Fleet, adopt: Adopt, *, promoting: bool = False
) -> None:
    """Check every reached host, and stop the whole run if one is somebody else's.

    ``promoting``: another backend is about to become the issuer.

    Raises:
        PyinfraError: lists all objections, before pyinfra has run any operation.
    """
    with _lock:
        if id(state) in _unreached:
            return
        surveys.ask_all(state)
        deployed = _deployed(state, fleet)
        found = _not_reached(state, fleet, deployed)
        reached = {host.name: surveys.of(host) for host in state.activated_hosts}
        found += [] if promoting else epochs.objections(fleet, reached)
        for host in state.activated_hosts:
            seen, machine = surveys.of(host), host.data.machine
            if machine in fleet.balancers:
                found += _of_pools(fleet, deployed, host)
            found += objections.objections(fleet, machine, seen.facts, adopt, promoting=promoting)
        if found:
            found.sort(key=lambda each: each.host)
            event("refused", text=objections.describe(found))
            raise PyinfraError(f"nothing was changed on any host:\n{objections.describe(found)}")
        for each in host_keys.shared(reached):
            event("note", text=each.full())
        _no_longer_trusted[id(state)] = gate.no_longer_trusted(fleet, deployed) if deployed else []
        _unreached[id(state)] = _sending_there(state, fleet, deployed)


def letting_go(state: State) -> list[Host]:
    """Return the balancers that send to what the backends are about to remove.

    They stop first; if one of them fails, the backends must not be changed.
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
    """Return the issuer's rendered fleet; None: it has none, or was not reached."""
    for host in state.activated_hosts:
        text = surveys.of(host).text(DEPLOYED) if host.name == fleet.issuer_name else ""
        if text:
            try:
                return Fleet.from_json(text)
            except StoreError:
                # From a newer version; the next command that reads it reports that.
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
    """Return findings for lineages that no backend would serve during the deploy."""
    before = gate.read(surveys.of(host).text(CONFIGURATION))
    return [Finding(host.name, each.text, each.hint) for each in outages(fleet, deployed, before)]

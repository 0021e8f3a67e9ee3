"""`certsync leave`: uninstall certsync from all hosts; they keep serving."""

from __future__ import annotations

from pathlib import Path

from certsync.model.errors import RolloutError
from certsync.operator.deployment import execute
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.request import DeployRequest
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.hosts import fleet_lock
from certsync.system import console

STAYS = """\
certsync is uninstalled. nginx, HAProxy, their configuration and the certificates stay and keep
serving. Nothing renews the certificate from now on: that is up to you. The account at the CA is
deactivated if the CA could be reached, and its key is removed"""


def _request(file: FleetFile) -> DeployRequest:
    return DeployRequest(file, deploy="deploy/leave.py")


def plan(path: Path) -> Plan:
    """Return what leaving would do; nothing is changed.

    Raises:
        FleetFileError: the fleet file has mistakes.
        HostError: a host cannot be reached.
    """
    file = opened(path)
    return execute.dry_run(_request(file), file.fleet, execute.NOTHING_ELSE)


def leave(path: Path, done: list[Step]) -> None:
    """Uninstall certsync from every host of a fleet; ``done`` gets what was changed.

    Raises:
        FleetFileError: the fleet file has mistakes.
        LockHeldError: another run is changing the fleet.
        RolloutError: a host was unreachable, or a step failed there; the same command continues.
    """
    file = opened(path)
    fleet = file.fleet
    with fleet_lock.held(fleet, "leave") as lock:
        executed = execute.run(_request(file), fleet, [lock], done)
    if executed.failures:
        raise RolloutError(
            f"certsync is not uninstalled everywhere yet: {executed.why}",
            "fix this, then run the same command again",
        )
    console.result(STAYS)

"""`certsync leave`: take the tool off all hosts; what serves goes on serving."""

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
nginx, HAProxy, their configuration and the certificates stay, and go on serving; nothing renews
the certificate any more, it is yours to do. The account at the CA is
deactivated, as far as the CA could be asked, and its key removed"""


def _request(file: FleetFile) -> DeployRequest:
    return DeployRequest(file, deploy="deploy/leave.py")


def plan(path: Path) -> Plan:
    """Return what leaving would do; nothing is changed.

    Raises:
        FleetFileError: the fleet file has mistakes.
        HostError: a host is not reached.
    """
    file = opened(path)
    return execute.dry_run(_request(file), file.fleet, execute.NOTHING_ELSE)


def leave(path: Path, done: list[Step]) -> None:
    """Take certsync off every host of a fleet; ``done`` gets what was changed.

    Raises:
        FleetFileError: the fleet file has mistakes.
        LockHeldError: another run changes the fleet.
        RolloutError: a host was not reached, or a step failed there; the same command goes on.
    """
    file = opened(path)
    fleet = file.fleet
    with fleet_lock.held(fleet, "leave") as token:
        executed = execute.run(_request(file), fleet, token, done)
    if executed.failures:
        raise RolloutError(
            f"certsync has not left every host: {executed.why}",
            "run the same command again when this is fixed",
        )
    console.result(STAYS)

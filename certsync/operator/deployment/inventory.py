"""The fleet in the form of a pyinfra inventory: groups of host names, each with its data.

pyinfra runs `inventory/NAME.py`, which calls this. pyinfra is not imported here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from certsync.model.errors import FleetFileError
from certsync.model.fleet import Machine
from certsync.operator.deployment.request import DeployRequest, Resolved, resolved

Group = list[tuple[str, dict[str, Any]]]

VARIABLE = "CERTSYNC_REQUEST"
"""If set, the request is the first line of standard input."""


def groups(path: Path) -> tuple[Group, Group, Group, Group]:
    """Return the groups backends, issuer, replicas and balancers of this fleet file.

    A certsync command passes in the fleet it has read, with the change it is about to make. A
    backend that this change removes is in the group of backends, but not in the hosts' `fleet`.

    Raises:
        SystemExit: the file cannot be read or has mistakes; the message lists them all.
    """
    wanted = Resolved.from_json(sys.stdin.readline()) if VARIABLE in os.environ else _read(path)
    fleet = wanted.fleet
    members = (
        (*fleet.backends, *wanted.leaving), (fleet.issuer,), fleet.replicas, fleet.balancers,
    )  # fmt: skip
    backend, issuer, replica, balancer = (
        [(machine.name, _data(machine, wanted)) for machine in group] for group in members
    )
    return backend, issuer, replica, balancer


def _read(path: Path) -> Resolved:
    from certsync.operator.fleet_file import describe, opened

    try:
        return resolved(DeployRequest(opened(path)))
    except FleetFileError as error:
        # pyinfra shows any other exception as a traceback of the inventory file.
        raise SystemExit(describe(error)) from None


def _data(machine: Machine, wanted: Resolved) -> dict[str, Any]:
    fleet = wanted.fleet
    return {
        "_sudo": machine.ssh_user != "root",
        "fleet": fleet,
        "fleet_sum": wanted.fleet_sum,
        "machine": machine,
        **asdict(wanted.options),
    }

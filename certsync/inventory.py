"""The fleet as pyinfra's inventory files want it: groups of host names, each with its data.

pyinfra runs `inventory/NAME.py`, which calls this; nothing of pyinfra is loaded here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from certsync import overrides
from certsync.change import NONE, Change
from certsync.errors import FleetFileError
from certsync.fleet import Fleet, Machine
from certsync.fleet_file import describe, read_fleet, text_of

Group = list[tuple[str, dict[str, Any]]]


def groups(path: Path) -> tuple[Group, Group, Group, Group]:
    """Return the groups backends, issuer, replicas and balancers of this fleet file.

    A change that a command is about to make is in the environment. Who leaves the fleet by it is
    among the backends, and not in the fleet that each host's data holds.

    Raises:
        SystemExit: it cannot be read, or has mistakes; all of them are in the message.
    """
    change = Change.from_json(os.environ.get("CERTSYNC_CHANGE", ""))
    try:
        before, fleet = read_fleet(path), read_fleet(path, change)
        text = text_of(path, change)
        overrides.check(fleet, str(path))
    except FleetFileError as error:
        # pyinfra shows any other exception as a traceback of the inventory file.
        raise SystemExit(describe(error)) from None
    # A byte order mark in front is no part of the text, and part of the file.
    same = change == NONE
    fleet_sum = hashlib.sha256(path.read_bytes() if same else text.encode()).hexdigest()
    leaving = tuple(each for each in before.backends if each.name in change.remove)
    backends = (*fleet.backends, *leaving, *change.departing)
    members = (backends, (fleet.issuer,), fleet.replicas, fleet.balancers)
    backend, issuer, replica, balancer = (
        [(machine.name, _data(machine, fleet, fleet_sum)) for machine in group] for group in members
    )
    return backend, issuer, replica, balancer


def _data(machine: Machine, fleet: Fleet, fleet_sum: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "ssh_hostname": machine.address,
        "ssh_user": machine.ssh_user,
        "ssh_port": machine.ssh_port,
        "ssh_strict_host_key_checking": "yes",
        "_sudo": machine.ssh_user != "root",
        "fleet": fleet,
        "fleet_sum": fleet_sum,
        "machine": machine,
    }
    if machine.ssh_key:
        data["ssh_key"] = machine.ssh_key
    if fleet.known_hosts:
        data["ssh_known_hosts_file"] = fleet.known_hosts
    return data

"""The fleet as pyinfra's inventory files want it: groups of host names, each with its data.

pyinfra runs `inventory/NAME.py`, which calls this; nothing of pyinfra is loaded here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from certsync.errors import FleetFileError
from certsync.fleet import Fleet, Machine
from certsync.fleet_file import describe, read_fleet

Group = list[tuple[str, dict[str, Any]]]


def groups(path: Path) -> tuple[Group, Group, Group, Group]:
    """Return the groups backends, issuer, replicas and balancers of this fleet file.

    Raises:
        SystemExit: it cannot be read, or has mistakes; all of them are in the message.
    """
    try:
        fleet = read_fleet(path)
    except FleetFileError as error:
        # pyinfra shows any other exception as a traceback of the inventory file.
        raise SystemExit(describe(error)) from None
    fleet_sum = hashlib.sha256(path.read_bytes()).hexdigest()
    members = (fleet.backends, (fleet.issuer,), fleet.replicas, fleet.balancers)
    backends, issuer, replicas, balancers = (
        [(machine.name, _data(machine, fleet, fleet_sum)) for machine in group] for group in members
    )
    return backends, issuer, replicas, balancers


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

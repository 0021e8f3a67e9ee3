"""The fleet as pyinfra's inventory files want it: groups of host names, each with its data.

pyinfra runs `inventory/NAME.py`, which calls this; nothing of pyinfra is loaded here.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certsync.model.errors import FleetFileError
from certsync.model.fleet import Fleet, Machine
from certsync.operator.change import NONE, Change

Group = list[tuple[str, dict[str, Any]]]

VARIABLE = "CERTSYNC_REQUEST"
"""Set where what is to be done comes as the first line of standard input."""


@dataclass(frozen=True)
class Request:
    """What pyinfra is to make of which hosts: a fleet file that was read and checked once."""

    fleet: Fleet
    """With the change that a command is about to make."""

    fleet_sum: str
    """SHA-256 of the fleet file with that change."""

    leaving: tuple[Machine, ...] = ()
    """Hosts of this run that are no backends of the fleet, or no longer."""

    def to_json(self) -> str:
        """Return it as one line."""
        leaving = [asdict(each) for each in self.leaving]
        return json.dumps(
            {"fleet": self.fleet.to_json(), "sum": self.fleet_sum, "leaving": leaving}
        )

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Return what `to_json` wrote."""
        data = json.loads(text)
        leaving = tuple(Machine(**each) for each in data["leaving"])
        return cls(Fleet.from_json(json.dumps(data["fleet"])), data["sum"], leaving)


def request(path: Path, change: Change) -> Request:
    """Return what is to be made of a fleet file with a change.

    Raises:
        FleetFileError: it cannot be read, or has mistakes; so may a template of the fleet's own.
    """
    # Who is given a request loads nothing of what reads a fleet file.
    from certsync.operator.fleet_file import read_fleet, text_of
    from certsync.operator.rendering import overrides

    fleet = read_fleet(path, change)
    overrides.check(fleet, str(path))
    if change == NONE:
        # A byte order mark in front is no part of the text, and part of the file.
        return Request(fleet, hashlib.sha256(path.read_bytes()).hexdigest())
    gone = [each for each in read_fleet(path).backends if each.name in change.remove]
    fleet_sum = hashlib.sha256(text_of(path, change).encode()).hexdigest()
    return Request(fleet, fleet_sum, (*gone, *change.departing))


def groups(path: Path) -> tuple[Group, Group, Group, Group]:
    """Return the groups backends, issuer, replicas and balancers of this fleet file.

    A command of certsync's hands over what it has read, with the change that it is about to make.
    Who leaves the fleet by it is among the backends, and not in the fleet that each host's data
    holds.

    Raises:
        SystemExit: it cannot be read, or has mistakes; all of them are in the message.
    """
    wanted = Request.from_json(sys.stdin.readline()) if VARIABLE in os.environ else _read(path)
    fleet = wanted.fleet
    members = (
        (*fleet.backends, *wanted.leaving), (fleet.issuer,), fleet.replicas, fleet.balancers,
    )  # fmt: skip
    backend, issuer, replica, balancer = (
        [(machine.name, _data(machine, fleet, wanted.fleet_sum)) for machine in group]
        for group in members
    )
    return backend, issuer, replica, balancer


def _read(path: Path) -> Request:
    try:
        return request(path, NONE)
    except FleetFileError as error:
        from certsync.operator.fleet_file import describe

        # pyinfra shows any other exception as a traceback of the inventory file.
        raise SystemExit(describe(error)) from None


def _data(machine: Machine, fleet: Fleet, fleet_sum: str) -> dict[str, Any]:
    # Loaded in pyinfra's own process, which has it anyway.
    from certsync.operator.deployment import undelayed

    data: dict[str, Any] = {
        "ssh_hostname": machine.address,
        "ssh_user": machine.ssh_user,
        "ssh_port": machine.ssh_port,
        "ssh_strict_host_key_checking": "yes",
        "ssh_paramiko_connect_kwargs": {"transport_factory": undelayed.transport},
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

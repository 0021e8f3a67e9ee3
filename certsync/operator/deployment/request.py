"""A request for a pyinfra run, passed to it as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from certsync.model.fleet import Fleet, Machine

if TYPE_CHECKING:
    from certsync.operator.fleet_file import FleetFile

ISSUE, KEPT, TAKE_OVER, NOT_YET = "issue", "kept", "take-over", "none"
"""The certificate: order one if due; use the current one; take over certbot's; none yet."""


@dataclass(frozen=True)
class Options:
    """What a run does besides applying the fleet file.

    Each field is also in pyinfra's host data, under the same name.
    """

    certificate: str = ISSUE
    adopt_nginx: bool = False
    adopt_haproxy: bool = False
    adopt_balancer: bool = False
    """Whether what a provider's balancer has may be taken over."""

    accept_gap: bool = False
    """Whether it may fail new connections for a while."""

    promoting: bool = False
    leaving: str = ""
    """The backend that leaves."""

    leaving_address: str = ""
    drain_seconds: int = 0
    compromised: bool = False
    """Whether the leaving backend's keys are replaced."""


@dataclass(frozen=True)
class DeployRequest:
    """What a command asks for."""

    file: FleetFile
    """The fleet file with the command's change."""

    options: Options = Options()
    only: tuple[str, ...] = ()
    """The hosts to work on; empty: all."""

    deploy: str = "deploy/site.py"


@dataclass(frozen=True)
class Resolved:
    """A request whose fleet file has been read and checked."""

    fleet: Fleet
    """The fleet with the change that a command is about to make."""

    fleet_sum: str
    """SHA-256 of the fleet file with that change."""

    leaving: tuple[Machine, ...] = ()
    """Hosts of this run that are no longer backends of the fleet."""

    options: Options = Options()

    def to_json(self) -> str:
        """Return it as one line."""
        data = {
            "fleet": self.fleet.to_json(),
            "sum": self.fleet_sum,
            "leaving": [asdict(each) for each in self.leaving],
            "options": asdict(self.options),
        }
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Resolved:
        """Parse the output of `to_json`."""
        data = json.loads(text)
        return cls(
            Fleet.from_json(json.dumps(data["fleet"])),
            data["sum"],
            tuple(Machine(**each) for each in data["leaving"]),
            Options(**data["options"]),
        )


def resolved(asked: DeployRequest) -> Resolved:
    """Return a request with its fleet.

    Raises:
        FleetFileError: the fleet file cannot be read, or it or its templates have mistakes.
    """
    # Imported late: the pyinfra process gets a resolved request and never reads a fleet file.
    from certsync.operator.rendering import overrides

    file, change = asked.file, asked.file.change
    overrides.check(file.fleet, str(file))
    gone = [each for each in file.before.fleet.backends if each.name in change.remove]
    return Resolved(file.fleet, file.sha256, (*gone, *change.departing), asked.options)

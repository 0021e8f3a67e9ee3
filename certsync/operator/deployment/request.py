"""What a run of pyinfra is asked for, handed to it as one line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from certsync.model.fleet import Fleet, Machine

if TYPE_CHECKING:
    from certsync.operator.fleet_file import FleetFile

ISSUE, KEPT, TAKE_OVER, NOT_YET = "issue", "kept", "take-over", "none"
"""What becomes of the certificate: ordered if one is due; brought as it is; certbot's; nothing."""


@dataclass(frozen=True)
class Options:
    """What a run does besides making hosts as the fleet file says.

    Each is a value of pyinfra's host data, by the same name.
    """

    certificate: str = ISSUE
    adopt_nginx: bool = False
    adopt_haproxy: bool = False
    promoting: bool = False
    leaving: str = ""
    """The backend that leaves."""

    leaving_address: str = ""
    drain_seconds: int = 0
    compromised: bool = False
    """Whether the keys of the one that leaves are replaced."""


@dataclass(frozen=True)
class DeployRequest:
    """What a command asks for."""

    file: FleetFile
    """With what it does not say yet, or not any more."""

    options: Options = Options()
    only: tuple[str, ...] = ()
    """The hosts to work on; empty: all."""

    deploy: str = "deploy/site.py"


@dataclass(frozen=True)
class Resolved:
    """A request whose fleet file was read and checked, once."""

    fleet: Fleet
    """With the change that a command is about to make."""

    fleet_sum: str
    """SHA-256 of the fleet file with that change."""

    leaving: tuple[Machine, ...] = ()
    """Hosts of this run that are no backends of the fleet, or no longer."""

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
        """Return what `to_json` wrote."""
        data = json.loads(text)
        return cls(
            Fleet.from_json(json.dumps(data["fleet"])),
            data["sum"],
            tuple(Machine(**each) for each in data["leaving"]),
            Options(**data["options"]),
        )


def resolved(asked: DeployRequest) -> Resolved:
    """Return a request with what its fleet file says.

    Raises:
        FleetFileError: it cannot be read, or has mistakes; so may a template of the fleet's own.
    """
    # Who is handed a resolved one loads nothing of what reads a fleet file.
    from certsync.operator.rendering import overrides

    file, change = asked.file, asked.file.change
    overrides.check(file.fleet, str(file))
    gone = [each for each in file.before.fleet.backends if each.name in change.remove]
    return Resolved(file.fleet, file.sha256, (*gone, *change.departing), asked.options)

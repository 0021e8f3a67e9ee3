"""What a run of pyinfra is asked for, handed to it as one line of JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from certsync.model.fleet import Fleet, Machine
from certsync.operator.change import NONE, Change

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

    fleet_file: Path
    options: Options = Options()
    change: Change = NONE
    """What the fleet file does not say yet, or not any more."""

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
    from certsync.operator.fleet_file import read_fleet, text_of
    from certsync.operator.rendering import overrides

    path, change = asked.fleet_file, asked.change
    fleet = read_fleet(path, change)
    overrides.check(fleet, str(path))
    if change == NONE:
        # A byte order mark in front is no part of the text, and part of the file.
        fleet_sum = hashlib.sha256(path.read_bytes()).hexdigest()
        return Resolved(fleet, fleet_sum, options=asked.options)
    gone = [each for each in read_fleet(path).backends if each.name in change.remove]
    fleet_sum = hashlib.sha256(text_of(path, change).encode()).hexdigest()
    return Resolved(fleet, fleet_sum, (*gone, *change.departing), asked.options)

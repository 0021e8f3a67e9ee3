"""A backend that leaves a fleet, as a value: the pyinfra run and the fleet file's change."""

from __future__ import annotations

from dataclasses import dataclass

from certsync.model.fleet import Fleet, Machine
from certsync.operator.change import NONE, Change
from certsync.operator.deployment import request
from certsync.operator.deployment.plan import HERE, FileChange, Step
from certsync.operator.deployment.request import DeployRequest
from certsync.operator.fleet_file import FleetFile

FILE_PHASE = "last: the fleet file"


DEPLOY = "deploy/remove.py"


@dataclass(frozen=True)
class Options:
    """The options of `remove-backend`."""

    gone: bool = False
    """It cannot be reached and will not come back."""

    compromised: bool = False
    """Somebody else may have its keys."""

    drain_seconds: int = 60
    """How long to wait for open connections to end."""


@dataclass(frozen=True)
class Leaving:
    """A backend that leaves a fleet."""

    file: FleetFile
    name: str
    options: Options
    fleet: Fleet
    """Without it."""

    machine: Machine | None
    """None: neither the fleet file nor the issuer has it any longer."""

    lineages: tuple[str, ...] = ()
    """Those that it serves."""

    named: bool = True
    """Whether the fleet file names it; else only the issuer knows the machine, if any."""

    is_over: bool = False
    """Whether it was removed before, and nothing remains to be done."""

    @property
    def change(self) -> Change:
        """What changes in the fleet file."""
        if self.machine and not self.named:
            return Change(departing=(self.machine,))
        return Change(remove=(self.name,)) if self.machine else NONE

    @property
    def after(self) -> FleetFile:
        """The fleet file with that change."""
        return self.file.changing(self.change)

    @property
    def request(self) -> DeployRequest:
        """The pyinfra run; it touches no other replica."""
        fleet, options = self.fleet, self.options
        only = [fleet.issuer_name, *(each.name for each in fleet.balancers)]
        if self.machine and not options.gone:
            only.append(self.name)
        wanted = request.Options(
            leaving=self.name,
            leaving_address=self.machine.private_address if self.machine else "",
            drain_seconds=options.drain_seconds,
            compromised=options.compromised,
        )
        return DeployRequest(self.after, wanted, tuple(only), DEPLOY)

    def written(self) -> tuple[Step, FileChange]:
        """Return the last step, which removes it from the fleet file."""
        before, after = self.file.text, self.after.text
        step = Step(FILE_PHASE, HERE, f"remove {self.name} from {self.file}")
        return step, FileChange(HERE, str(self.file), before, after)

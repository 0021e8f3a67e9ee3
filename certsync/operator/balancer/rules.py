"""`certsync rules`: the settings for a provider's balancer, and whether its rule may be on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certsync.model.errors import CertsyncError, HostError
from certsync.model.fleet import Fleet
from certsync.model.options import Provider
from certsync.operator.balancer import provider_rules
from certsync.operator.balancer.provider_rules import Standing
from certsync.operator.fleet_file import read_fleet
from certsync.operator.fleet_file.differences import undeployed
from certsync.operator.hosts import issuer_side


@dataclass(frozen=True)
class Shown:
    """The rules of a fleet, and whether they may be on."""

    fleet: Fleet
    standing: Standing

    def text(self) -> str:
        """Return it as text for people."""
        return provider_rules.text(self.fleet, self.standing)

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return provider_rules.to_json(self.fleet, self.standing)


def rules(path: Path, *, offline: bool) -> Shown:
    """Return what to set by hand; with ``offline`` the issuer is not asked.

    Raises:
        FleetFileError: the fleet file has mistakes.
        CertsyncError: the fleet has balancers of ours.
    """
    fleet = read_fleet(path)
    if fleet.balancer.provider is not Provider.NONE:
        names = ", ".join(machine.name for machine in fleet.balancers)
        raise CertsyncError(
            f"certsync sets this fleet's rules itself, on {names}",
            'for a provider\'s balancer set provider = "none" under [balancer] and remove '
            "[balancers]",
        )
    if offline:
        return Shown(fleet, provider_rules.unasked(fleet, "the issuer was not asked"))
    return Shown(fleet, standing(fleet))


def standing(fleet: Fleet) -> Standing:
    """Return whether the rule may be on, by what the issuer proves now."""
    try:
        differing = undeployed(fleet, issuer_side.rendered(fleet, fleet.issuer), ())
        seen = issuer_side.proven(fleet, fleet.issuer)
    except HostError as error:
        return provider_rules.unasked(fleet, error.message)
    return provider_rules.stand(fleet, seen.proofs, differing)


def conclusion(fleet: Fleet, path: Path) -> str:
    """Return a deploy's closing message for a provider's balancer; else nothing."""
    if fleet.balancer.provider is not Provider.NONE:
        return ""
    text = standing(fleet).text()
    return f"{text}\nits settings: certsync rules {shlex.quote(str(path))}"

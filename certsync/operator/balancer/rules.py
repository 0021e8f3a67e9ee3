"""`certsync rules`: the settings for a provider's balancer, and whether its rule may be on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certsync.model.errors import CertsyncError, HostError
from certsync.model.fleet import Fleet
from certsync.model.options import Provider
from certsync.model.proof import Proof
from certsync.operator.balancer import provider_rules
from certsync.operator.balancer.gate import Seen
from certsync.operator.balancer.managed import decide
from certsync.operator.balancer.managed.driven import opened
from certsync.operator.balancer.provider_rules import Standing
from certsync.operator.fleet_file import read_fleet
from certsync.operator.fleet_file.differences import undeployed
from certsync.operator.hosts import issuer_side
from certsync.operator.watching import load_balancer

Proofs = Mapping[str, Mapping[str, Proof]]
"""The issuer's, by lineage and backend."""


@dataclass(frozen=True)
class Difference:
    """What a provider's balancer has, and what it should have by what is proven now."""

    balancer: str
    """Provider and identifier."""

    rule: str
    """What port 443 has, as text."""

    members: Mapping[str, str]
    """Each backend's state in the pool, as in `status`."""

    changes: tuple[str, ...]
    """What the next deploy would change, as text; empty: nothing."""

    objections: tuple[str, ...]
    """What speaks against changing it, as text."""

    def lines(self) -> list[str]:
        """Return it as lines for people."""
        found = [self.balancer, f"    port 443: {self.rule}"]
        found += [f"    {name}: {state}" for name, state in self.members.items()]
        found += [f"must not be changed: {each}" for each in self.objections]
        found += [f"the next deploy would change: {each}" for each in self.changes]
        return found if self.changes else [*found, "the next deploy would change nothing there"]

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class Shown:
    """The rules of a fleet, and whether they may be on."""

    fleet: Fleet
    standing: Standing
    difference: Difference | None = None
    """What a driven balancer lacks; None: it is set by hand, or was not asked."""

    def text(self) -> str:
        """Return it as text for people."""
        if self.difference:
            return "\n".join([*self.difference.lines(), self.standing.text()])
        table = self.fleet.balancer
        if table.provider.is_driven:
            unasked = f"{table.provider.value} {table.load_balancer}: not asked"
            return f"{unasked}\n{self.standing.text()}"
        return provider_rules.text(self.fleet, self.standing)

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        data = provider_rules.to_json(self.fleet, self.standing)
        return {**data, "driven": self.difference.to_json() if self.difference else None}


def rules(path: Path, *, offline: bool) -> Shown:
    """Return what to set by hand; with ``offline`` the issuer is not asked.

    Raises:
        FleetFileError: the fleet file has mistakes.
        CertsyncError: the fleet has balancers of ours.
        ManagedError: its balancer at a provider cannot be asked.
    """
    fleet = read_fleet(path)
    if fleet.balancer.provider is Provider.HAPROXY:
        names = ", ".join(machine.name for machine in fleet.balancers)
        raise CertsyncError(
            f"certsync sets this fleet's rules itself, on {names}",
            'for a provider\'s balancer set provider = "none" under [balancer] and remove '
            "[balancers]",
        )
    if offline:
        return Shown(fleet, provider_rules.unasked(fleet, "the issuer was not asked"))
    proofs, stands = _asked(fleet)
    return Shown(fleet, stands, _difference(fleet, proofs))


def standing(fleet: Fleet) -> Standing:
    """Return whether the rule may be on, by what the issuer proves now."""
    return _asked(fleet)[1]


def _asked(fleet: Fleet) -> tuple[Proofs, Standing]:
    try:
        differing = undeployed(fleet, issuer_side.rendered(fleet, fleet.issuer), ())
        seen = issuer_side.proven(fleet, fleet.issuer)
    except HostError as error:
        return {}, provider_rules.unasked(fleet, error.message)
    return seen.proofs, provider_rules.stand(fleet, seen.proofs, differing)


def _difference(fleet: Fleet, proofs: Proofs) -> Difference | None:
    """Return what a driven balancer lacks; None: the fleet has none.

    Raises:
        ManagedError: it cannot be asked.
    """
    driven = opened(fleet)
    if driven is None:
        return None
    state = driven.provider.read()
    names = [host.name for host in fleet.backends]
    _, now, _ = driven.foreseen(state, Seen(proofs, names))
    seen = load_balancer.told(driven.task, state)
    return Difference(
        f"{fleet.balancer.provider.value} {fleet.balancer.load_balancer}",
        decide.rule_in_words(state),
        seen.pools,
        tuple(now),
        tuple(each.text for each in seen.findings),
    )


def conclusion(fleet: Fleet, path: Path) -> str:
    """Return a deploy's closing message for a provider's balancer; else nothing."""
    if fleet.balancer.provider is not Provider.NONE:
        return ""
    text = standing(fleet).text()
    return f"{text}\nits settings: certsync rules {shlex.quote(str(path))}"

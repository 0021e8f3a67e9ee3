"""`certsync check`: summarize a fleet file, or list every mistake in it."""

from __future__ import annotations

from pathlib import Path

from certsync.model.fleet import LETSENCRYPT, LETSENCRYPT_STAGING, Fleet
from certsync.model.options import Provider
from certsync.operator.fleet_file import read_fleet
from certsync.operator.rendering import overrides

SIGNERS = {LETSENCRYPT: "Let's Encrypt", LETSENCRYPT_STAGING: "Let's Encrypt's staging CA"}


def check(path: Path) -> str:
    """Return a summary of the fleet file.

    Raises:
        FleetFileError: it cannot be read, or it or its templates have mistakes.
    """
    fleet = read_fleet(path)
    replaced = overrides.check(fleet, str(path))
    lines = [f"{path} is fine: {_summary(fleet)}"]
    lines += [f"{overrides.PLACE}/{name} replaces certsync's own" for name in replaced]
    if not fleet.authority.publicly_trusted:
        lines.append("its certificate will not be publicly trusted: browsers reject it")
    return "\n".join(lines)


def _summary(fleet: Fleet) -> str:
    directory = fleet.authority.directory
    return ", ".join(
        [
            _count(sum(len(each.names) for each in fleet.lineages), "name"),
            *([_count(len(fleet.lineages), "lineage")] if fleet.has_several else []),
            f"issuer {fleet.issuer_name}",
            _count(len(fleet.replicas), "replica"),
            _balancers(fleet),
            f"signed by {SIGNERS.get(directory, directory)}",
        ]
    )


def _balancers(fleet: Fleet) -> str:
    if fleet.balancer.provider.is_driven:
        return f"{fleet.balancer.provider.value}'s balancer"
    if fleet.balancer.provider is Provider.NONE:
        return "provider's balancer"
    return _count(len(fleet.balancers), "balancer")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""`certsync check`: says what a fleet file means, or all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

from certsync import overrides
from certsync.fleet import LETSENCRYPT, LETSENCRYPT_STAGING, Fleet
from certsync.fleet_file import read_fleet

SIGNERS = {LETSENCRYPT: "Let's Encrypt", LETSENCRYPT_STAGING: "Let's Encrypt's staging CA"}


def check(path: Path) -> str:
    """Return what the fleet file says, in a few words.

    Raises:
        FleetFileError: it cannot be read, or has mistakes, as may its own templates.
    """
    fleet = read_fleet(path)
    replaced = overrides.check(fleet, str(path))
    lines = [f"{path} is fine: {_summary(fleet)}"]
    lines += [f"{overrides.PLACE}/{name} takes the place of certsync's" for name in replaced]
    if not fleet.authority.publicly_trusted:
        lines.append("its certificate will not be publicly trusted: browsers refuse it")
    return "\n".join(lines)


def _summary(fleet: Fleet) -> str:
    directory = fleet.authority.directory
    return ", ".join(
        [
            _count(len(fleet.names), "name"),
            f"issuer {fleet.issuer_name}",
            _count(len(fleet.replicas), "replica"),
            _count(len(fleet.balancers), "balancer"),
            f"signed by {SIGNERS.get(directory, directory)}",
        ]
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

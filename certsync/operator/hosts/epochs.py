"""The issuer's epoch in this run, from the surveys of the hosts: see `certsync/model/epoch.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from certsync.model import epoch
from certsync.model.epoch import Epoch
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.model.paths import IssuerPaths
from certsync.operator.hosts.survey import Survey
from certsync.programs import receiver

MARKER = str(IssuerPaths().marker)
KEYS = str(receiver.ACCEPTED_KEY)

REPLACED = "its epoch as the issuer is {}, but {}"
RESTORED = (
    "if the fleet file is older than a promotion, pull the newer one; if this host was restored "
    "from a backup or snapshot: certsync promote FLEET {}"
)
OTHER_FLEET = "it accepts pushes from the issuer of another fleet"
LEAVE_THERE = (
    "remove it from that fleet first (`certsync remove-backend`); if that fleet no longer exists, "
    f"delete {KEYS} there"
)


NOBODY: Mapping[str, Survey] = {}


def of_issuer(
    fleet: Fleet, issuer: Survey, others: Mapping[str, Survey] = NOBODY, *, promoting: bool = False
) -> Epoch:
    """Return the issuer's epoch.

    ``others`` are surveys of other hosts by name; ``promoting``: it is becoming the issuer now.
    """
    known = [each for one in others.values() for each in _known(one)]
    new = epoch.fleet_of(issuer.machine, fleet.name)
    return epoch.current(epoch.in_text(issuer.text(MARKER)), known, new, promoting=promoting)


def objections(fleet: Fleet, surveys: Mapping[str, Survey]) -> list[Finding]:
    """Return why this run must not go on: the issuer was replaced, or a host is another fleet's.

    ``surveys`` are those of the hosts that were reached, by name.
    """
    issuer = surveys.get(fleet.issuer_name)
    own = epoch.in_text(issuer.text(MARKER)) if issuer else None
    if own is None:
        return []
    accepted = {
        name: its
        for name, each in sorted(surveys.items())
        if name != fleet.issuer_name and (its := epoch.in_text(each.text(KEYS)))
    }
    found = [
        Finding(name, OTHER_FLEET, LEAVE_THERE)
        for name, each in accepted.items()
        if each.fleet != own.fleet
    ]
    later = [
        f"{name} accepts the issuer of epoch {each.number}"
        for name, each in accepted.items()
        if each.fleet == own.fleet and each.ends(own)
    ]
    if later:
        why = REPLACED.format(own.number, ", ".join(later))
        found.append(Finding(fleet.issuer_name, why, RESTORED.format(fleet.issuer_name)))
    return found


def _known(seen: Survey) -> Iterator[Epoch]:
    for path in (KEYS, MARKER):
        if found := epoch.in_text(seen.text(path)):
            yield found

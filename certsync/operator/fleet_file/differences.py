"""Whether a fleet file matches what was deployed, except for a command's own change. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from certsync.model.fleet import Fleet, Machine
from certsync.model.options import Site

CALLED = {"authority": "ca", "share_tickets": "sessions"}
"""Keys that have another name in the file than in the fleet."""

NOT_COMPARED = ("lineages", "backends", "balancers", "issuer_name", "known_hosts", "templates")
"""Compared in detail below, changed by their own command, or different for each operator."""


def undeployed(wanted: Fleet, rendered: Fleet, changing: Collection[str]) -> list[str]:
    """Return the keys of the fleet file that differ from the rendered fleet.

    ``changing`` are the machines that may be in only one of the two. Paths on the operator's
    machine are ignored: every operator has their own.
    """
    one, other = _comparable(wanted, changing), _comparable(rendered, changing)
    found = [key for key in one if one[key] != other.get(key)]
    for group in ("backends", "balancers"):
        was = {each.name: _bare(each) for each in getattr(rendered, group)}
        will = {each.name: _bare(each) for each in getattr(wanted, group)}
        found += [
            f"{group}.{name}"
            for name in sorted({*was, *will} - set(changing))
            if was.get(name) != will.get(name)
        ]
    return found


def _comparable(fleet: Fleet, changing: Collection[str]) -> dict[str, Any]:
    ca = replace(
        fleet.authority,
        directory_bundle=str(bool(fleet.authority.directory_bundle)),
        roots=str(bool(fleet.authority.roots)),
    )
    # The first lineage is at the top of the file, so its keys are compared one by one.
    first, *others = [replace(each, serving=()) for each in fleet.lineages]
    served_by, *serving = [_but(each.serving, changing) for each in fleet.lineages]
    alike = [each.name for each in fields(fleet) if each.name not in NOT_COMPARED]
    return {
        "names": first.names,
        "served_by": served_by,
        **{CALLED.get(name, name): getattr(fleet, name) for name in alike},
        "ca": ca,
        "certificate": replace(first, names=(), site=Site()),
        "site": first.site,
        "lineages": (others, serving),
    }


def _but(serving: Collection[str], changing: Collection[str]) -> list[str] | None:
    """Return the others that serve; None: none is listed, which means that all serve."""
    return [name for name in serving if name not in changing] if serving else None


def _bare(machine: Machine) -> Machine:
    return replace(machine, ssh_key="", ssh_user="", address="")

"""Whether a fleet file says what was deployed, but for what a command is about to change. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from certsync.model.fleet import Fleet, Machine


def undeployed(wanted: Fleet, rendered: Fleet, changing: Collection[str]) -> list[str]:
    """Return the keys of the fleet file that say something else than the rendered fleet.

    ``changing`` are the machines that may be in one of the two alone. Paths on the operator's
    machine are no part of it: every operator has their own.
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
    # The first lineage is at the top of the file, and each of its keys is told by itself.
    first, *others = [replace(each, serving=()) for each in fleet.lineages]
    served_by, *serving = [_but(each.serving, changing) for each in fleet.lineages]
    return {
        "names": first.names, "public_addresses": fleet.public_addresses, "ca": ca,
        "certificate": (first.key_type, first.profile, first.reuse_key), "site": first.site,
        "passthrough": fleet.passthrough, "firewall": fleet.firewall,
        "balancing": fleet.balancing, "balancer": fleet.balancer,
        "sessions": fleet.share_tickets, "lineages": (others, serving),
        "served_by": served_by,
        "renewal": fleet.renewal, "notify": fleet.notify,
        "metrics": fleet.metrics,
    }  # fmt: skip


def _but(serving: Collection[str], changing: Collection[str]) -> list[str] | None:
    """Return who serves besides those; None: nobody is named, which says that all do."""
    return [name for name in serving if name not in changing] if serving else None


def _bare(machine: Machine) -> Machine:
    return replace(machine, ssh_key="", ssh_user="", address="")

"""Maps the keys that have different places in the fleet file and in the fleet, both ways.

All others have the same place: a dataclass is a table, and its fields are the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certsync.model import codec
from certsync.model.fleet import LETSENCRYPT, Fleet
from certsync.model.options import Site
from certsync.operator.fleet_file.paths import own_templates

NAME = "NAME"
"""Stands for the name of any machine or lineage among keys."""

Keys = dict[str, Any]
"""The keys of a table, each with its value or type; for a subtable, its own keys."""


def in_file(fleet: Keys) -> Keys:
    """Return the file's keys for those of the fleet, in the order in which to report mistakes."""
    del fleet["templates"]
    lineage, backend, balancer = (
        fleet.pop(key)[NAME] for key in ("lineages", "backends", "balancers")
    )
    for machine in (backend, balancer):
        del machine["name"]
    names, served_by = lineage.pop("names"), lineage.pop("serving")
    site, certificate = lineage.pop("site"), lineage
    ssh = {key.removeprefix("ssh_"): backend[key] for key in backend if key.startswith("ssh_")}
    stickiness = fleet["balancing"].pop("stickiness")
    return {
        "names": names,
        "public_addresses": fleet.pop("public_addresses"),
        "served_by": served_by,
        "issuer": fleet.pop("issuer_name"),
        "passthrough": fleet.pop("passthrough"),
        "ca": {"agree_to_terms": bool, **fleet.pop("authority")},
        "certificate": certificate,
        "ssh": {**ssh, "known_hosts": fleet.pop("known_hosts")},
        "site": site,
        "sessions": {"share_tickets": fleet.pop("share_tickets"), "stickiness": stickiness},
        **fleet,
        "lineages": {
            NAME: {
                "names": names, "served_by": served_by, "certificate": certificate, "site": site,
            },
        },
        "balancers": {NAME: balancer},
        "backends": {NAME: backend},
    }  # fmt: skip


def fleet_of(values: Keys, folder: Path) -> Fleet:
    """Return the fleet for a file's values, with defaults for missing ones.

    Keys without a field are ignored, so a whole table is passed to each class that has some of its
    keys.
    """
    ssh, sessions, backends = (values.get(key, {}) for key in ("ssh", "sessions", "backends"))
    lineages = [values, *(_lineage(each, values) for each in values.get("lineages", {}).values())]
    plain = {
        "public_addresses": (), **values, **ssh, **sessions,
        "authority": {"directory": LETSENCRYPT, **values.get("ca", {})},
        "balancing": {**values.get("balancing", {}), **sessions},
        "issuer_name": values.get("issuer", next(iter(backends), "")),
        "lineages": [
            {
                "names": each.get("names", ()), "serving": each.get("served_by", ()),
                "site": each.get("site", {}), **each.get("certificate", {}),
            }
            for each in lineages
        ],
        "backends": _machines(backends, ssh),
        "balancers": _machines(values.get("balancers", {}), ssh),
        "templates": own_templates(folder),
    }  # fmt: skip
    return codec.typed(plain, Fleet)


def _lineage(own: Keys, first: Keys) -> Keys:
    """Return a lineage's values, with missing ones taken from the first lineage."""
    site, like = own.get("site", {}), first.get("site", {})
    kind = like.get("kind", Site.kind.value)
    # A different kind of site has different keys.
    return {
        **own,
        "certificate": {**first.get("certificate", {}), **own.get("certificate", {})},
        "site": {**(like if site.get("kind", kind) == kind else {}), **site},
    }


def _machines(machines: Keys, ssh: Keys) -> list[Keys]:
    like = {f"ssh_{key}": value for key, value in ssh.items()}
    return [
        {
            "name": name,
            "private_address": values.get("address", ""),
            "address": "",
            **like,
            **values,
        }
        for name, values in machines.items()
    ]

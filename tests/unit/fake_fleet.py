"""Values that many tests start from. Nothing here stands in for anything of certsync's."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta, timezone

from certsync.model.fleet import Authority, Fleet, Lineage, Machine
from certsync.model.generation import Manifest

NAME = "passthrough.example.com"
DIRECTORY = "https://ca.example/dir"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def machine(name: str, number: int, **changes: object) -> Machine:
    """Return a host of the documentation's network."""
    address = f"203.0.113.{number}"
    return Machine(**{"name": name, "address": address, "private_address": address, **changes})  # type: ignore[arg-type]  # a test's shorthand


def lineage(*names: str, **changes: object) -> Lineage:
    """Return a lineage of these names, the tutorial's unless others are said."""
    return Lineage(names or (NAME,), **changes)  # type: ignore[arg-type]  # a test's shorthand


def fleet(backends: int = 3, **changes: object) -> Fleet:
    """Return the tutorial's fleet; what belongs to a lineage changes its only one."""
    of_lineage = {
        field.name: changes.pop(field.name) for field in fields(Lineage) if field.name in changes
    }
    values = {
        "lineages": (Lineage(**{"names": (NAME,), **of_lineage}),),  # type: ignore[arg-type]  # a test's shorthand
        "public_addresses": ("203.0.113.10", "2001:db8:113::10"),
        "authority": Authority(DIRECTORY),
        "backends": tuple(machine(f"backend-0{n}", 10 + n) for n in range(1, backends + 1)),
        "balancers": (machine("balancer", 10),),
        "issuer_name": "backend-01",
        **changes,
    }
    return Fleet(**values)  # type: ignore[arg-type]  # a test's shorthand


def manifest(number: int = 1, *, days: float = 90, age: float = 0, **changes: object) -> Manifest:
    """Return the manifest of a certificate of ``days``, issued ``age`` days ago."""
    begin = NOW - timedelta(days=age)
    values = {
        "lineage": NAME,
        "number": number,
        "names": (NAME,),
        "not_before": begin,
        "not_after": begin + timedelta(days=days),
        "fingerprint": f"{number:064x}",
        "key_type": "ecdsa-p256",
        "directory": DIRECTORY,
        "account": "https://ca.example/account/1",
        "files": {"privkey.pem": f"{number:064x}"},
        **changes,
    }
    return Manifest(**values)  # type: ignore[arg-type]  # a test's shorthand

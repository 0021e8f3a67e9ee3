"""The fleet file's tables and keys, derived from the fleet's dataclasses.

A key's name, type and default are those of its field; only the rules for values are listed here. A
rule returns the value as the fleet stores it. No key is required here, so that one mistake never
hides another: `whole` checks what is required and must fit together. The validation context is the
fleet file's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, create_model

from certsync.model import fleet, options
from certsync.operator.fleet_file import hosts, paths, places, rules
from certsync.operator.fleet_file.places import NAME, Keys

Rule = Callable[..., str | int]


def _in_folder(rule: Callable[[str, Path], str]) -> Rule:
    """Give a rule for files the folder that relative paths start from."""

    def validate(value: str, info: ValidationInfo[Path]) -> str:
        return rule(value, info.context)

    return validate


SSH_FILE, CERTIFICATE_FILE = _in_folder(paths.ssh_file), _in_folder(paths.certificate_file)

RULES: dict[type, dict[str, Rule]] = {
    fleet.Fleet: {"public_addresses": hosts.ip_address, "known_hosts": SSH_FILE},
    fleet.Authority: {
        "directory": hosts.directory,
        "contact": hosts.email,
        "directory_bundle": CERTIFICATE_FILE,
        "roots": CERTIFICATE_FILE,
        "eab_key_id": rules.key_identifier,
    },
    fleet.Lineage: {"names": hosts.certificate_name, "profile": rules.profile},
    fleet.Machine: {
        "address": hosts.machine_address,
        "private_address": hosts.ip_address,
        "ssh_user": rules.operators_user,
        "ssh_port": rules.port,
        "ssh_key": SSH_FILE,
    },
    options.Site: {
        "root": rules.site_root,
        "upstream": hosts.upstream,
        "hsts_seconds": rules.seconds(2 * rules.YEAR),
    },
    options.Balancing: {
        "health_path": rules.health_path,
        "proxy_port": rules.port,
        "max_connections": rules.count(1_000_000),
        "slow_start_seconds": rules.seconds(3600),
        "connections_per_client": rules.count(1_000_000),
    },
    options.Balancer: {
        "virtual_addresses": hosts.ip_address,
        "networks": hosts.network,
        "load_balancer": rules.load_balancer,
    },
    options.Renewal: {"every_hours": rules.every_hours},
    options.Notify: {"heartbeat_url": hosts.heartbeat_url},
    options.Metrics: {"folder": rules.metrics_folder},
}
"""By field; for a list, the rule for each entry. Enumerations need none."""


def _keys(kind: Any) -> Keys:
    hints, ruled = get_type_hints(kind), RULES.get(kind, {})
    return {each.name: _type(hints[each.name], ruled.get(each.name)) for each in fields(kind)}


def _type(kind: Any, rule: Rule | None) -> Any:
    if get_origin(kind) is tuple:
        entry = _type(get_args(kind)[0], rule)
        return {NAME: entry} if isinstance(entry, dict) else GenericAlias(list, entry)
    if is_dataclass(kind):
        return _keys(kind)
    if issubclass(kind, Enum):
        kind, rule = str, rules.one_of(kind)
    return Annotated[kind, AfterValidator(rule)] if rule else kind


FILE: Keys = places.in_file(_keys(fleet.Fleet))
"""The keys at the top of the file, and its tables with theirs."""


class Table(BaseModel):
    """The base of all tables: no unknown keys, no type conversion."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _model(keys: Any) -> Any:
    """Return the pydantic model for a table's keys, or a key's type."""
    if not isinstance(keys, dict):
        return keys
    if NAME in keys:
        return GenericAlias(dict, (str, _model(keys[NAME])))
    optional: dict[str, Any] = {key: (_model(keys[key]), None) for key in keys}
    return create_model("Table", __base__=Table, **optional)


MODEL: type[Table] = _model(FILE)


def keys_of(place: Sequence[str]) -> Keys:
    """Return the keys of the table at a place of the file."""
    keys = FILE
    for part in place:
        keys = keys[NAME if NAME in keys else part]
    return keys


def home_of(key: str) -> str:
    """Return where a key belongs, as text; empty: nowhere."""
    if key in FILE:
        return "at the top of the file, above the first [table]"
    homes: dict[str, str] = {}
    for table, keys in FILE.items():
        if isinstance(keys, dict):
            title, inside = (f"{table}.{NAME}", keys[NAME]) if NAME in keys else (table, keys)
            homes |= dict.fromkeys(inside, f"in [{title}]")
    return homes.get(key, "")

"""No private key and no secret address is in a `repr`: unforeseen errors are logged with it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import certsync

NO_MODULES = ("certsync.__main__", "certsync.any_inventory")
"""What does something when it is imported."""

NO_SECRETS = {
    "Alert.key",
    "Member.key",
    "Message.key",
    "_Cause.key",
    "Certificate.public_key",
    "Lock.token",
    "Machine.ssh_key",
    "Tries.request_key",
}
"""Fields with a secret's name that have none: what an alert or a balancer's member is known by, a
public key, a path, who holds a lock."""

SECRETS = {"key", "hmac_key", "url", "heartbeat_url", "secret", "password", "private_key", "token"}


def fields() -> Iterator[tuple[str, dataclasses.Field[object]]]:
    """Return the fields of all dataclasses of the package, by class and name."""
    for module in pkgutil.walk_packages(certsync.__path__, "certsync."):
        if module.name in NO_MODULES:
            continue
        for name, found in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(found) and dataclasses.is_dataclass(found):
                for field in dataclasses.fields(found):
                    yield f"{name}.{field.name}", field


def is_secret(name: str, field: dataclasses.Field[object]) -> bool:
    """Return whether a field may hold a secret, by its name; ticket keys are bytes of any name."""
    named = field.name.endswith("_key") and str(field.type) in ("str", "bytes")
    return name not in NO_SECRETS and (field.name in SECRETS or named)


def test_no_field_with_a_secret_is_shown() -> None:
    found = dict(fields())
    held = {"CompromisedKey.key", "Issued.key", "Found.key", "Keys.current", "Api.token"}
    assert set(found) >= held
    shown = [name for name, field in found.items() if field.repr and is_secret(name, field)]
    assert shown == []
    assert not any(found[f"Keys.{each}"].repr for each in ("current", "next", "previous"))

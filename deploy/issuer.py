"""The issuer: certsync in its own virtual environment, and what its pushes need."""

from __future__ import annotations

import getpass
import json
import shlex
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pyinfra.api import Host

from certsync.model import identity, paths
from certsync.model.epoch import Epoch
from certsync.model.fleet import Fleet, Machine
from certsync.model.identity import Identity
from certsync.operator.deployment import operations
from certsync.operator.hosts import epochs, wheels
from certsync.operator.hosts.facts import BALANCER, MARK
from certsync.operator.hosts.host_keys import host_keys
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from deploy import fellows, step
from deploy.step import Content, Step, Steps

PUSH = str(paths.PUSH_HOME)
KNOWN_HOSTS = f"{PUSH}/known_hosts"
USER = paths.PUSHING_USER
STORE = paths.IssuerPaths()

Others = Mapping[str, Survey]
"""Surveys of other hosts of the fleet, by name."""


def planned(
    fleet: Fleet, fleet_sum: str, replicas: list[Host], seen: Survey, *, promoting: bool = False
) -> Steps:
    """Set up the issuer for ordering and pushing, with surveys of the replicas.

    ``promoting``: the previous issuer is among them; its list of former machines is merged, because
    it is deleted there in the end.
    """
    others = fellows.seen(replicas)
    lists = [each.text(str(STORE.left)) for each in others.values()] if promoting else []
    yield from configure(fleet, fleet_sum, others, seen, lists=lists, promoting=promoting)


def forgetting(
    fleet: Fleet, fleet_sum: str, replicas: list[Host], seen: Survey, *, name: str, address: str
) -> Steps:
    """Make the issuer forget a replica, with surveys of the others: see `forget`."""
    others = fellows.seen(replicas)
    yield from forget(fleet, fleet_sum, others, seen, name=name, address=address)


def configure(
    fleet: Fleet,
    fleet_sum: str,
    others: Others,
    seen: Survey,
    *,
    lists: Iterable[str] = (),
    promoting: bool = False,
) -> Steps:
    """Set up the issuer for ordering and pushing.

    ``fleet_sum`` is the fleet file's SHA-256. ``lists`` are other hosts' lists of former machines.
    ``promoting``: it was not the issuer before.
    """
    yield installed(seen, notify=bool(fleet.notify.events))
    target = f"{paths.OPT}/current/bin/certsync"
    yield step.link(seen, "certsync on the path", "/usr/local/bin/certsync", target)
    yield step.directory(seen, "State", str(STORE.state))
    for folder in ("", "/.well-known", "/.well-known/acme-challenge"):
        yield step.directory(seen, f"Webroot{folder}", f"{STORE.webroot}{folder}")
    yield from _push_user(seen)
    yield _pinned(fleet, others, seen)
    yield _left(fleet, lists, seen)
    number = epochs.of_issuer(fleet, seen, others, promoting=promoting)
    yield from _rendered_fleet(fleet, fleet_sum, seen, number)


def forget(
    fleet: Fleet, fleet_sum: str, others: Others, seen: Survey, *, name: str, address: str
) -> Steps:
    """Make the issuer forget a replica, except its name; it had this private address."""
    rules = [f"allow from {address} to any port 80 proto tcp"] if address else []
    yield step.firewall(seen, [], instead_of=rules)
    yield _pinned(fleet, others, seen)
    yield _left(fleet, [f"{name}\n"], seen)
    yield from _rendered_fleet(fleet, fleet_sum, seen, epochs.of_issuer(fleet, seen, others))


def _push_user(seen: Survey) -> Steps:
    yield step.user(seen, "Pushing user", USER, home=PUSH, shell="/usr/sbin/nologin")
    yield step.directory(seen, "Its home, owned by root", PUSH, group=USER, mode="750")
    key = f"{PUSH}/id_ed25519"
    entry = seen.entries.get(key)
    yield step.command(
        operations.PUSH_KEY,
        # Made under another name first, so that an interrupted run leaves no broken key.
        f"rm -f {key}.new {key}.new.pub {key} && "
        f"ssh-keygen -q -t ed25519 -N '' -C 'certsync push' -f {key}.new && "
        f"chgrp {USER} {key}.new && chmod 640 {key}.new && "
        f"mv {key}.new.pub {key}.pub && mv {key}.new {key}",
        needed=entry is None or entry.size == 0,
    )


def _pinned(fleet: Fleet, others: Others, seen: Survey) -> Step:
    text = known_hosts(fleet, others, seen.text(KNOWN_HOSTS))
    return step.file(seen, "Pinned host keys of the replicas", KNOWN_HOSTS, text)


def known_hosts(fleet: Fleet, others: Others, before: str) -> str:
    """Return known_hosts with the replicas' keys; if a replica was not surveyed, with its old ones.

    ``before`` is the file's current text.
    """
    lines = [f"# {templates.HEADER}"]
    for machine in fleet.replicas:
        address = _as_known(machine)
        keys = host_keys(others[machine.name]) if machine.name in others else []
        known = [line for line in before.splitlines() if line.startswith(f"{address} ")]
        lines += [f"{address} {key}" for key in keys] or known
    return "\n".join(lines) + "\n"


def _as_known(machine: Machine) -> str:
    if machine.ssh_port == 22:
        return machine.private_address
    return f"[{machine.private_address}]:{machine.ssh_port}"


def _left(fleet: Fleet, lists: Iterable[str], seen: Survey) -> Step:
    """Update the list of former machines: it distinguishes their names from mistyped ones."""
    path = str(STORE.left)
    text = left(fleet, [seen.text(path), *lists])
    return step.file(seen, "Former machines", path, text, mode="600")


def left(fleet: Fleet, lists: list[str]) -> str:
    """Merge these lists, without machines that are back in the fleet; empty: none ever left."""
    heading = f"# {templates.HEADER}"
    lines = {line for text in lists for line in text.splitlines() if line.strip()}
    names = lines - {heading, *(each.name for each in fleet.machines)}
    return "".join(f"{line}\n" for line in [heading, *sorted(names)]) if lines else ""


def _rendered_fleet(fleet: Fleet, fleet_sum: str, seen: Survey, epoch: Epoch) -> Steps:
    authority = fleet.authority
    for name, source, target in (
        ("Roots for the CA's HTTPS", authority.directory_bundle, STORE.directory_bundle),
        ("Roots for issued certificates", authority.roots, STORE.roots),
    ):
        if source:
            yield step.file(seen, name, str(target), Path(source).read_text)
    fleet_file, origin_file = str(STORE.fleet_file), str(STORE.origin)
    yield step.file(seen, operations.RENDERED_FLEET, fleet_file, rendered(fleet), mode="600")
    note = origin(fleet_sum, seen.text(origin_file))
    yield step.file(seen, "Origin of the rendered fleet", origin_file, note, mode="600")
    machines = "".join(f"{each.name}\n" for each in fleet.backends)
    machines += "".join(f"{each.name} {BALANCER}\n" for each in fleet.balancers)
    yield step.file(seen, "List of machines", str(STORE.machines), machines, mode="600")
    addresses = {address for _interface, address in seen.addresses}
    address = fleet.issuer.private_address
    own = Identity(seen.machine, address in addresses)
    text = identity.marker(f"{MARK}: this host is the issuer of {fleet.name}", own, epoch, address)
    yield step.file(seen, "Issuer marker", str(STORE.marker), text, mode="600")


def rendered(fleet: Fleet) -> str:
    """Return the rendered fleet, without what only the operator's machine needs."""
    data = fleet.to_json()
    for machine in (*data["backends"], *data["balancers"]):
        machine["ssh_key"] = ""
    data["known_hosts"] = data["templates"] = ""
    return json.dumps(data, indent=1, default=str) + "\n"


def origin(fleet_sum: str, before: str) -> str:
    """Return the note of which fleet file was deployed, and when and by whom first."""
    if fleet_sum in before:
        return before
    note = {
        "schema": 1,
        "sha256": fleet_sum,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "by": f"{getpass.getuser()}@{socket.gethostname()}",
    }
    return json.dumps(note, indent=1) + "\n"


def installed(seen: Survey, *, notify: bool) -> Step:
    """Install this certsync from uploaded wheels; the link switches to it once it works.

    ``notify``: include the package that sends notifications.
    """
    name = operations.INSTALLED
    release = wheels.release(notify=notify)
    current = seen.entries.get(f"{paths.OPT}/current")
    if current is not None and current.target == release and seen.certsync_works:
        return Step(name)
    # Test now that it can import what unattended runs need.
    needed = f"import certsync.issuer.ca.issuance{', apprise' if notify else ''}"
    script = f"install -d {paths.OPT} && {shlex.join(['new_release', release, needed])}"

    def files() -> dict[str, Content]:
        brought = wheels.bring(replace(_target(seen), notify=notify))
        return {wheel.name: wheel for wheel in brought}

    return Step(name, script, files)


def _target(seen: Survey) -> wheels.Target:
    """Return the issuer's platform.

    Raises:
        HostError: there are no wheels for it.
    """
    python = ".".join(str(part) for part in seen.facts.python)
    return wheels.Target(python, seen.facts.arch, seen.libc)

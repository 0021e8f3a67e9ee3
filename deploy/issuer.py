"""The issuer: certsync in a virtual environment of its own, and what its pushes need."""

from __future__ import annotations

import getpass
import json
import shlex
import socket
from collections.abc import Generator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, deploy, operation
from pyinfra.operations import files, server

from certsync import replication, templates, wheels
from certsync.errors import CertsyncError
from certsync.fleet import Fleet, Machine
from certsync.look import BALANCER, MARK
from certsync.store import Store
from deploy.facts import Lines, Text
from deploy.operations import firewall_allows, ran, refused, written
from deploy.replica import host_keys

OPT = "/opt/certsync"
PUSH = str(replication.PUSH_HOME)
USER = replication.PUSHING_USER
STORE = Store()


@deploy("Issuer: certsync and push key")
def configure(fleet: Fleet, replicas: list[Any]) -> None:
    """Have everything on the issuer that ordering and pushing need."""
    installed(name="certsync in its own virtual environment", notify=bool(fleet.notify.events))
    files.link(
        name="certsync on the path", path="/usr/local/bin/certsync",
        target=f"{OPT}/current/bin/certsync",
    )  # fmt: skip
    files.directory(name="State", path=str(STORE.state), mode="755")
    for folder in ("", "/.well-known", "/.well-known/acme-challenge"):
        files.directory(name=f"Webroot{folder}", path=f"{STORE.webroot}{folder}", mode="755")
    _push_user(fleet, replicas)
    # The issuer before is among them while the role moves, and takes its list away at the end.
    _left(fleet, replicas if host.data.get("promote") else [])
    _rendered_fleet(fleet)


@deploy("Issuer: a replica leaves")
def forget(fleet: Fleet, replicas: list[Any], name: str, address: str) -> None:
    """Have the issuer know a replica no more, but for its name; it had this private address."""
    firewall_allows(
        name="Firewall",
        rules=[],
        instead_of=[f"allow from {address} to any port 80 proto tcp"] if address else [],
        enable=False,
        ssh_port=fleet.issuer.ssh_port,
    )
    _pinned(fleet, replicas)
    _left(fleet, [], name)
    _rendered_fleet(fleet)


def _push_user(fleet: Fleet, replicas: list[Any]) -> None:
    server.user(
        name="Pushing user", user=USER, system=True, home=PUSH, shell="/usr/sbin/nologin",
        ensure_home=False,
    )  # fmt: skip
    files.directory(name="Its home, root's", path=PUSH, user="root", group=USER, mode="750")
    ran(
        name="Push key",
        command=f"ssh-keygen -q -t ed25519 -N '' -C 'certsync push' -f {PUSH}/id_ed25519 "
        f"&& chgrp {USER} {PUSH}/id_ed25519 && chmod 640 {PUSH}/id_ed25519",
        unless=f"test -s {PUSH}/id_ed25519",
    )
    _pinned(fleet, replicas)


def _pinned(fleet: Fleet, replicas: list[Any]) -> None:
    written(
        name="Pinned host keys of the replicas",
        path=f"{PUSH}/known_hosts",
        content=lambda: known_hosts(fleet, replicas),
    )


def known_hosts(fleet: Fleet, replicas: list[Any]) -> str:
    """Return the replicas' host keys; of one that gives none in this run, those known before."""
    reached = {each.name: each for each in replicas if each.connected}
    before = host.get_fact(Text, path=f"{PUSH}/known_hosts").splitlines()
    lines = [f"# {templates.HEADER}"]
    for machine in fleet.replicas:
        address = _as_known(machine)
        keys = host_keys(reached[machine.name]) if machine.name in reached else []
        known = [line for line in before if line.startswith(f"{address} ")]
        lines += [f"{address} {key}" for key in keys] or known
    return "\n".join(lines) + "\n"


def _as_known(machine: Machine) -> str:
    if machine.ssh_port == 22:
        return machine.private_address
    return f"[{machine.private_address}]:{machine.ssh_port}"


def _left(fleet: Fleet, others: list[Any], name: str = "") -> None:
    """Have the list of who has left, which alone tells such a name from a mistyped one."""

    def content() -> str:
        known = [host, *(each for each in others if each.connected)]
        lists = [str(each.get_fact(Text, path=str(STORE.left))) for each in known]
        return left(fleet, [*lists, f"{name}\n"])

    written(name="Who has left", path=str(STORE.left), content=content, mode="600")


def left(fleet: Fleet, lists: list[str]) -> str:
    """Return these lists as one, without who is in the fleet again; empty: nobody has ever left."""
    heading = f"# {templates.HEADER}"
    lines = {line for text in lists for line in text.splitlines() if line.strip()}
    names = lines - {heading, *(each.name for each in fleet.machines)}
    return "".join(f"{line}\n" for line in [heading, *sorted(names)]) if lines else ""


def _rendered_fleet(fleet: Fleet) -> None:
    authority = fleet.authority
    for name, source, target in (
        ("Roots of the CA's HTTPS", authority.directory_bundle, STORE.directory_bundle),
        ("Roots of issued certificates", authority.roots, STORE.roots),
    ):
        if source:
            written(name=name, path=str(target), content=Path(source).read_text())
    # Nothing that only the operator's machine has a use for goes to the issuer.
    data = fleet.to_json()
    for machine in (*data["backends"], *data["balancers"]):
        machine["ssh_key"] = ""
    data["known_hosts"] = data["templates"] = ""
    text = json.dumps(data, indent=1, default=str) + "\n"
    written(name="Rendered fleet", path=str(STORE.fleet_file), content=text, mode="600")
    written(
        name="Where it comes from",
        path=str(STORE.origin),
        content=lambda: origin(host.data.fleet_sum, host.get_fact(Text, path=str(STORE.origin))),
        mode="600",
    )
    machines = "".join(f"{each.name}\n" for each in fleet.backends)
    machines += "".join(f"{each.name} {BALANCER}\n" for each in fleet.balancers)
    written(name="Known machines", path=f"{STORE.root}/machines", content=machines, mode="600")
    written(
        name="Marker of the issuer",
        path=str(STORE.marker),
        content=f"# {MARK}: this host is the issuer of {fleet.lineage}\n",
        mode="600",
    )


def origin(fleet_sum: str, before: str) -> str:
    """Return the note of which fleet file was deployed, and when and by whom it first was."""
    if fleet_sum in before:
        return before
    note = {
        "schema": 1,
        "sha256": fleet_sum,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "by": f"{getpass.getuser()}@{socket.gethostname()}",
    }
    return json.dumps(note, indent=1) + "\n"


@operation()
def installed(*, notify: bool) -> Generator[Any, None, None]:
    """Have this certsync installed from wheels we bring, tried before the link switches to it.

    ``notify`` says whether with what sends notifications.
    """
    release = wheels.release(notify=notify)
    folder = f"{OPT}/{release}"
    current = host.get_fact(Lines, script=f"readlink {OPT}/current")
    python = host.get_fact(Lines, script=f"{OPT}/current/bin/certsync --version && echo works")
    if current == [release] and "works" in python:
        host.noop(f"certsync {release} is installed")
        return
    yield StringCommand(f"mkdir -p {OPT} && rm -rf {folder} {folder}.wheels")
    yield StringCommand(f"mkdir {folder}.wheels")
    try:
        brought = wheels.bring(replace(_target(), notify=notify))
    except CertsyncError as error:
        yield refused(error)
        return
    for wheel in brought:
        path = f"{folder}.wheels/{wheel.name}"
        yield FileUploadCommand(str(wheel), path, remote_temp_filename=host.get_temp_filename(path))
    yield StringCommand(
        f"python3 -m venv {folder} && {folder}/bin/pip install -q --no-index "
        f"--disable-pip-version-check --no-compile {folder}.wheels/*.whl "
        f"&& rm -rf {folder}.wheels"
    )
    # It must start and load what it will need at night, before anything calls it.
    needed = "import certsync.issuance, apprise" if notify else "import certsync.issuance"
    yield StringCommand(
        f"{folder}/bin/certsync --version && {folder}/bin/python -m compileall -q {folder}/lib "
        f"&& {folder}/bin/python -c {shlex.quote(needed)}"
    )
    yield StringCommand(f"ln -sfn {release} {OPT}/.current && mv -T {OPT}/.current {OPT}/current")
    keep = shlex.quote(release)
    yield StringCommand(
        f"cd {OPT} && ls -1t | grep -v -x -e current -e {keep} | tail -n +2 | xargs -r rm -rf"
    )


def _target() -> wheels.Target:
    """Return what the issuer says it runs.

    Raises:
        HostError: that is nothing that wheels are made for.
    """
    script = (
        "python3 -c 'import platform, sys, os; "
        'print("%d.%d" % sys.version_info[:2], platform.machine(), '
        'os.confstr("CS_GNU_LIBC_VERSION").split()[1])\''
    )
    lines = host.get_fact(Lines, script=script)
    python, machine, libc = (*" ".join(lines).split(), "", "", "")[:3]
    return wheels.Target(python, machine, libc)

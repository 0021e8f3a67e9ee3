"""Every balancer: HAProxy, passing TLS on unopened, with no certificate's key on the machine."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.operations import files

from certsync import gate, templates
from certsync.fleet import Fleet, Machine
from certsync.proof import Proof
from deploy.facts import Standing, Text
from deploy.operations import (
    MEMBERS_ARE_UP,
    firewall_allows,
    haproxy_configured,
    packages_present,
    put_aside,
    ran,
    ran_when,
    written,
)
from deploy.progress import event, is_dry

CONFIGURATION = "/etc/haproxy/haproxy.cfg"
SOCKET = "/run/haproxy/admin.sock"
DROP_IN = "/etc/systemd/system/haproxy.service.d"


@deploy("Balancers: packages")
def packages() -> None:
    """Install HAProxy from the distribution."""
    packages_present(
        name="Install HAProxy", packages=["haproxy", "socat", "ca-certificates", "sudo"]
    )


@deploy("Balancers: port 80")
def configure(fleet: Fleet, machine: Machine) -> None:
    """Have port 80 lead to every backend; of port 443, what an earlier run has decided."""
    source = templates.road() / "templates/haproxy/reload.conf"
    files.directory(name="Folder of the reload's drop-in", path=DROP_IN, mode="755")
    drop_in = written(
        name="Reload that keeps the servers' states",
        path=f"{DROP_IN}/certsync.conf",
        content=source.read_text(),
    )
    ran_when(
        name="systemd reads it", command="systemctl daemon-reload", needed=lambda: drop_in.changed
    )
    source_roots = fleet.authority.roots
    if source_roots:
        roots = written(
            name="Roots for the health check",
            path=templates.BALANCER_ROOTS,
            content=Path(source_roots).read_text(),
        )
    if host.data.get("adopt_haproxy"):
        put_aside(name="Put another haproxy.cfg aside", paths=_foreign_file, remove=False)
    haproxy_configured(name="haproxy.cfg", content=lambda: configuration(fleet, {}))
    if source_roots:
        ran_when(
            name="HAProxy reads other roots",
            command=f"systemctl try-reload-or-restart haproxy\n{MEMBERS_ARE_UP}",
            needed=lambda: roots.changed,
        )
    firewall_allows(
        name="Firewall", rules=["allow 80/tcp", "allow 443/tcp"], enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )  # fmt: skip


@deploy("Balancers: drain")
def drain(name: str) -> None:
    """Have a member get no new connections; the ones it has go on."""
    pools = "tls tls-unverified http challenge"
    known = f"grep -q '^    server {name} ' {CONFIGURATION}"
    ran(
        name="No new connections",
        command=f"for pool in {pools}; do "
        f'echo "set server $pool/{name} state drain" | socat -t 5 - {SOCKET} > /dev/null; done',
        unless=f"! {known}",
    )


@deploy("Balancers: pools")
def without(fleet: Fleet) -> None:
    """Have the pools as the fleet is; who is in it stays as proven as it is."""
    haproxy_configured(name="haproxy.cfg", content=lambda: configuration(fleet, {}, last=True))


def _foreign_file() -> list[str]:
    return [CONFIGURATION] if host.get_fact(Standing).haproxy == "foreign" else []


def configuration(fleet: Fleet, proofs: dict[str, Proof], *, last: bool = False) -> str:
    """Return haproxy.cfg as it should be, from what the balancer has and what has been proven.

    ``last``: no other one follows in this run, so that a dry run tells of its pools.
    """
    before = gate.read(host.get_fact(Text, path=CONFIGURATION))
    names = [machine.name for machine in fleet.backends]
    decided = gate.decide(fleet.passthrough, names, before, proofs)
    if last and is_dry():
        event("gate", host=host.name, before=asdict(before), after=asdict(decided))
    roots = fleet.authority.roots
    roots_sum = hashlib.sha256(Path(roots).read_bytes()).hexdigest() if roots else ""
    return templates.haproxy(fleet, decided, roots_sum)

"""Every balancer: HAProxy, passing TLS on unopened, with no certificate's key on the machine."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.operations import files

from certsync import capacity, gate, templates
from certsync.fleet import Fleet, Machine
from deploy.facts import Lines, Standing, Text
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
NOTHING_SEEN = gate.Seen()


@deploy("Balancers: packages")
def packages() -> None:
    """Install HAProxy from the distribution."""
    packages_present(
        name="Install HAProxy",
        packages=["haproxy", "socat", "ca-certificates", "sudo", "python3"],
    )


@deploy("Balancers: roots")
def roots(fleet: Fleet) -> None:
    """Have what the health check verifies with, before a configuration names it."""
    if not fleet.authority.roots:
        return
    own = written(
        name="Roots for the health check",
        path=templates.BALANCER_ROOTS,
        content=Path(fleet.authority.roots).read_text(),
    )
    ran_when(
        name="HAProxy reads other roots",
        command=f"systemctl try-reload-or-restart haproxy\n{MEMBERS_ARE_UP}",
        needed=lambda: own.changed,
    )


@deploy("Balancers: port 80")
def configure(fleet: Fleet, machine: Machine) -> None:
    """Have port 80 lead to every backend; of port 443, what an earlier run has decided."""
    source = templates.road() / "templates/haproxy"
    files.directory(name="Folder of the programs", path="/usr/local/lib/certsync", mode="755")
    written(
        name="What saves the servers' states",
        path="/usr/local/lib/certsync/save-state",
        content=(source / "save-state").read_text(),
        mode="755",
    )
    files.directory(name="Folder of the reload's drop-in", path=DROP_IN, mode="755")
    drop_in = written(
        name="Reload that keeps the servers' states",
        path=f"{DROP_IN}/certsync.conf",
        content=(source / "reload.conf").read_text(),
    )
    ran_when(
        name="systemd reads it", command="systemctl daemon-reload", needed=lambda: drop_in.changed
    )
    if host.data.get("adopt_haproxy"):
        put_aside(name="Put another haproxy.cfg aside", paths=_foreign_file, remove=False)
    # Nobody is let in here, and new backends answer nothing yet: there is nobody to wait for.
    haproxy_configured(
        name="haproxy.cfg", content=lambda: configuration(fleet, machine), until_up=False
    )
    firewall_allows(
        name="Firewall", rules=["allow 80/tcp", "allow 443/tcp"], enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )  # fmt: skip


@deploy("Balancers: drain")
def drain(name: str) -> None:
    """Have a member get no new connections; the ones it has go on."""
    known = f"grep -q '^    server {name} ' {CONFIGURATION}"
    where = f"""awk '/^backend / {{ p = $2 }} $1 == "server" && $2 == "{name}" {{ print p }}'"""
    ran(
        name="No new connections",
        command=f"for pool in $({where} {CONFIGURATION}); do "
        f'echo "set server $pool/{name} state drain" | socat -t 5 - {SOCKET} > /dev/null; done',
        unless=f"! {known}",
    )


@deploy("Balancers: pools")
def without(fleet: Fleet, machine: Machine) -> None:
    """Have the pools as the fleet is; who is in it stays as proven as it is."""
    haproxy_configured(name="haproxy.cfg", content=lambda: configuration(fleet, machine, last=True))


@deploy("Balancers: what is about to go")
def off_what_goes(fleet: Fleet, machine: Machine, *, untold: bool = False) -> None:
    """Send nothing any more to what the backends are about to take away.

    That is a site that a backend is to serve no more, and a port for the PROXY protocol that gets
    another number: until the new one is seen to listen, the member is reached on 443. ``untold``:
    all of them are, because they are about to trust another address of this balancer.
    """

    def content() -> str:
        text = host.get_fact(Text, path=CONFIGURATION)
        before = gate.read(text)
        moving = {*before.ports.values()} - {0, fleet.balancing.proxy_port}
        if untold and any(before.ports.values()):
            return configuration(fleet, machine, untold=True)
        return configuration(fleet, machine) if moving or before.leaving(fleet) else text

    # Nothing that is not there yet, or does not run, sends anything.
    haproxy_configured(name="Off what is about to go", content=content, started=False)


def _foreign_file() -> list[str]:
    return [CONFIGURATION] if host.get_fact(Standing).haproxy == "foreign" else []


def configuration(
    fleet: Fleet,
    machine: Machine,
    seen: gate.Seen = NOTHING_SEEN,
    *,
    last: bool = False,
    untold: bool = False,
) -> str:
    """Return haproxy.cfg as it should be, from what the balancer has and what has been seen.

    ``last``: no other one follows in this run, so that a dry run tells of its pools. ``untold``:
    no member is told the client's address, whichever is now.
    """
    before = gate.read(host.get_fact(Text, path=CONFIGURATION))
    if untold:
        before = replace(before, ports={})
    decided = gate.decide(fleet, before, seen)
    if last and is_dry():
        event("gate", host=host.name, before=asdict(before), after=asdict(decided))
    roots = fleet.authority.roots
    roots_sum = hashlib.sha256(Path(roots).read_bytes()).hexdigest() if roots else ""
    told = host.get_fact(Lines, script=capacity.SCRIPT)
    return templates.haproxy(
        fleet,
        machine,
        decided,
        roots_sum=roots_sum,
        connections=capacity.max_connections(fleet, told),
    )

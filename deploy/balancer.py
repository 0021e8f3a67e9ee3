"""Every balancer: HAProxy, passing TLS on unopened, with no certificate's key on the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from certsync.model.errors import CertsyncError
from certsync.model.fleet import Fleet, Machine
from certsync.model.paths import PROGRAMS, UNITS
from certsync.operator.balancer import capacity, gate, server_states
from certsync.operator.balancer.gate import Gate
from certsync.operator.deployment import operations
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from deploy import step
from deploy.progress import event, is_dry
from deploy.step import Step, Steps

CONFIGURATION = "/etc/haproxy/haproxy.cfg"
SOCKET = "/run/haproxy/admin.sock"
DROP_IN = f"{UNITS}/haproxy.service.d"
UNFINISHED = "/run/certsync-candidate.haproxy"
NOTHING_SEEN = gate.Seen()


def packages(seen: Survey) -> Steps:
    """Install HAProxy from the distribution."""
    wanted = ["haproxy", "socat", "ca-certificates", "sudo", "python3"]
    yield step.packages(seen, "Install HAProxy", wanted)


def roots(fleet: Fleet, seen: Survey) -> Steps:
    """Have what the health check verifies with, before a configuration names it."""
    if not fleet.authority.roots:
        return
    name = "Roots for the health check"
    own = step.file(
        seen, name, templates.BALANCER_ROOTS, lambda: Path(fleet.authority.roots).read_text()
    )
    yield own
    script = "haproxy_has_learnt; systemctl try-reload-or-restart haproxy && members_are_up"
    yield step.command("HAProxy reads other roots", script, needed=bool(own.script))


def configure(fleet: Fleet, machine: Machine, seen: Survey, *, adopt: bool = False) -> Steps:
    """Have port 80 lead to every backend; of port 443, what an earlier run has decided.

    Backends that join wait for the gate: they take nothing before, and each reload costs HAProxy.
    ``adopt``: a haproxy.cfg of somebody else's is put aside.
    """
    source = templates.road() / "templates/haproxy"
    yield step.directory(seen, "Folder of the programs", PROGRAMS)
    program, text = f"{PROGRAMS}/save-state", (source / "save-state").read_text()
    yield step.file(seen, "What saves the servers' states", program, text, mode="755")
    yield step.directory(seen, "Folder of the reload's drop-in", DROP_IN)
    name, text = "Reload that keeps the servers' states", (source / "reload.conf").read_text()
    drop_in = step.file(seen, name, f"{DROP_IN}/certsync.conf", text)
    yield drop_in
    yield step.units_read(seen, {"haproxy": drop_in})
    if adopt:
        foreign = [CONFIGURATION] if seen.facts.haproxy == "foreign" else []
        yield step.kept_aside("Put another haproxy.cfg aside", foreign, remove=False)
    # Nobody is let in here, and new backends answer nothing yet: there is nobody to wait for.
    content = partial(_without_joining, fleet, machine, seen)
    yield haproxy(operations.HAPROXY, content, seen, until_up=False)
    yield step.firewall(
        seen,
        ["allow 80/tcp", "allow 443/tcp"],
        enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )


def _without_joining(fleet: Fleet, machine: Machine, seen: Survey) -> str:
    """Return haproxy.cfg as it is where only backends that join are to come into it."""
    has = seen.text(CONFIGURATION)
    known = gate.read(has).web
    staying = replace(fleet, backends=tuple(each for each in fleet.backends if each.name in known))
    if fleet.issuer in staying.backends and configuration(staying, machine, seen) == has:
        return has
    return configuration(fleet, machine, seen)


def haproxy(
    name: str,
    content: Callable[[], str],
    seen: Survey,
    *,
    until_up: bool = True,
    started: bool = True,
) -> Step:
    """Return the step that has this haproxy.cfg, tested before it counts.

    ``until_up``: wait until its members have passed their checks. ``started``: have it run, also
    where its file is as it should be.
    """
    try:
        text = content()
    except (CertsyncError, OSError) as error:
        return step.refused(name, error)
    if seen.text(CONFIGURATION) == text and not seen.has(UNFINISHED):
        return step.runs(seen, name, "haproxy") if started else Step(name)
    wait = " wait" if until_up else ""
    changes = step.changed(seen, CONFIGURATION, text)
    return Step(name, f"configure_haproxy file{wait}", {"file": text}, changes)


@dataclass(frozen=True)
class Haproxy:
    """HAProxy on a host of the fleet, as proof drives it: see `operator/balancer/port.py`."""

    fleet: Fleet
    machine: Machine
    seen: Survey

    def read(self) -> Gate:
        """Return what its configuration says."""
        return gate.read(self.seen.text(CONFIGURATION))

    def change(self, wanted: Gate) -> Step:
        """Return the step that gives it these pools and this rule."""
        return haproxy(operations.PASSTHROUGH, lambda: self.text(wanted), self.seen)

    def drain(self, member: str) -> Step:
        """Return the step that sends a member no new connections; the ones it has go on."""
        pools = server_states.pools_with(member, self.seen.server_states)
        lines = [f"echo 'set server {pool}/{member} state drain'" for pool in pools]
        script = " && ".join(f"{line} | socat -t 5 - {SOCKET} > /dev/null" for line in lines)
        return step.command("No new connections", script, needed=bool(pools))

    def text(self, wanted: Gate) -> str:
        """Return its configuration with these pools and this rule."""
        roots = self.fleet.authority.roots
        roots_sum = hashlib.sha256(Path(roots).read_bytes()).hexdigest() if roots else ""
        limits = [self.seen.memory_kib, self.seen.open_files, self.seen.unit("haproxy").files]
        connections = capacity.max_connections(self.fleet, limits)
        return templates.haproxy(
            self.fleet, self.machine, wanted, roots_sum=roots_sum, connections=connections
        )


def drain(name: str, fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Have a member get no new connections."""
    yield Haproxy(fleet, machine, seen).drain(name)


def without(fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Have the pools as the fleet is; who is in it stays as proven as it is."""
    tell_gates(fleet, machine, seen)
    yield haproxy(operations.HAPROXY, lambda: configuration(fleet, machine, seen), seen)


def drop_outgoing(
    fleet: Fleet, machine: Machine, seen: Survey, *, without_client_address: bool = False
) -> Steps:
    """Send nothing any more to what the backends are about to take away.

    That is a site that a backend is to stop serving, and a port for the PROXY protocol that gets
    another number: until the new one is seen to listen, the member is reached on 443.
    ``without_client_address``:
    all of them are, because they are about to trust another address of this balancer.
    """

    def content() -> str:
        text = seen.text(CONFIGURATION)
        before = gate.read(text)
        moving = {*before.ports.values()} - {0, fleet.balancing.proxy_port}
        if without_client_address and any(before.ports.values()):
            return configuration(fleet, machine, seen, without_client_address=True)
        return configuration(fleet, machine, seen) if moving or before.leaving(fleet) else text

    # Nothing that is not there yet, or does not run, sends anything.
    yield haproxy(operations.DROP_OUTGOING, content, seen, started=False)


def configuration(
    fleet: Fleet,
    machine: Machine,
    seen: Survey,
    proven: gate.Seen = NOTHING_SEEN,
    *,
    without_client_address: bool = False,
) -> str:
    """Return haproxy.cfg as it should be, from what the balancer has and what has been proven.

    ``without_client_address``: no member is told the client's address, whichever is now.
    """
    _, decided = gates(fleet, seen, proven, without_client_address=without_client_address)
    return Haproxy(fleet, machine, seen).text(decided)


def tell_gates(
    fleet: Fleet, machine: Machine, seen: Survey, proven: gate.Seen = NOTHING_SEEN
) -> None:
    """Tell, in a dry run, which pools there would be at its end."""
    if is_dry():
        before, after = gates(fleet, seen, proven)
        event("gate", host=machine.name, before=asdict(before), after=asdict(after))


def gates(
    fleet: Fleet,
    seen: Survey,
    proven: gate.Seen = NOTHING_SEEN,
    *,
    without_client_address: bool = False,
) -> tuple[Gate, Gate]:
    """Return what a balancer's configuration says, and what it should say."""
    before = gate.read(seen.text(CONFIGURATION))
    if without_client_address:
        before = replace(before, ports={})
    return before, gate.decide(fleet, before, proven)

"""Every balancer: HAProxy, passing TLS through without any private key on the machine."""

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
    """Install the health check's roots, before a configuration refers to them."""
    if not fleet.authority.roots:
        return
    name = "Roots for the health check"
    own = step.file(
        seen, name, templates.BALANCER_ROOTS, lambda: Path(fleet.authority.roots).read_text()
    )
    yield own
    script = "haproxy_has_learnt; systemctl try-reload-or-restart haproxy && members_are_up"
    yield step.command("HAProxy loads the new roots", script, needed=bool(own.script))


def configure(fleet: Fleet, machine: Machine, seen: Survey, *, adopt: bool = False) -> Steps:
    """Forward port 80 to every backend; leave port 443 as an earlier run decided.

    New backends are added only by the gate, which saves a reload: they get no traffic before it.
    ``adopt``: keep a copy of another haproxy.cfg.
    """
    source = templates.road() / "templates/haproxy"
    yield step.directory(seen, "Program folder", PROGRAMS)
    program, text = f"{PROGRAMS}/save-state", (source / "save-state").read_text()
    yield step.file(seen, "Program that saves the servers' states", program, text, mode="755")
    yield step.directory(seen, "Folder of HAProxy's drop-in", DROP_IN)
    name, text = "Reload that keeps the servers' states", (source / "reload.conf").read_text()
    drop_in = step.file(seen, name, f"{DROP_IN}/certsync.conf", text)
    yield drop_in
    yield step.units_read(seen, {"haproxy": drop_in})
    if adopt:
        foreign = [CONFIGURATION] if seen.facts.haproxy == "foreign" else []
        yield step.kept_aside("Keep a copy of the other haproxy.cfg", foreign, remove=False)
    # No waiting: no member is admitted here, and new backends do not answer yet.
    content = partial(_without_joining, fleet, machine, seen)
    yield haproxy(operations.HAPROXY, content, seen, until_up=False)
    yield step.firewall(
        seen,
        ["allow 80/tcp", "allow 443/tcp"],
        enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )


def _without_joining(fleet: Fleet, machine: Machine, seen: Survey) -> str:
    """Return haproxy.cfg unchanged if only new backends would be added."""
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
    """Return the step that installs this haproxy.cfg, tested first.

    ``until_up``: wait until its members have passed their checks. ``started``: start HAProxy even
    if the file is unchanged.
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
    """HAProxy on one of the fleet's hosts: implements `operator/balancer/port.py`."""

    fleet: Fleet
    machine: Machine
    seen: Survey

    def read(self) -> Gate:
        """Return the pools and rule in its configuration."""
        return gate.read(self.seen.text(CONFIGURATION))

    def change(self, wanted: Gate) -> Step:
        """Return the step that sets these pools and this rule."""
        return haproxy(operations.PASSTHROUGH, lambda: self.text(wanted), self.seen)

    def drain(self, member: str) -> Step:
        """Return the step that stops new connections to a member; existing ones continue."""
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
    """Stop new connections to a member."""
    yield Haproxy(fleet, machine, seen).drain(name)


def without(fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Update the pools to the fleet; remaining members keep their state."""
    tell_gates(fleet, machine, seen)
    yield haproxy(operations.HAPROXY, lambda: configuration(fleet, machine, seen), seen)


def drop_outgoing(
    fleet: Fleet, machine: Machine, seen: Survey, *, without_client_address: bool = False
) -> Steps:
    """Stop sending to what the backends are about to remove.

    That is a site that a backend will stop serving, or a PROXY protocol port that changes: until
    the new one is seen to listen, the member is reached on 443. ``without_client_address``: all
    members are, because they are about to trust another address of this balancer.
    """

    def content() -> str:
        text = seen.text(CONFIGURATION)
        before = gate.read(text)
        moving = {*before.ports.values()} - {0, fleet.balancing.proxy_port}
        if without_client_address and any(before.ports.values()):
            return configuration(fleet, machine, seen, without_client_address=True)
        return configuration(fleet, machine, seen) if moving or before.leaving(fleet) else text

    # HAProxy is not started for this: if it does not run, it sends nothing.
    yield haproxy(operations.DROP_OUTGOING, content, seen, started=False)


def configuration(
    fleet: Fleet,
    machine: Machine,
    seen: Survey,
    proven: gate.Seen = NOTHING_SEEN,
    *,
    without_client_address: bool = False,
) -> str:
    """Return the desired haproxy.cfg, from the balancer's current one and the proof.

    ``without_client_address``: no member gets the client's address, even if some do now.
    """
    _, decided = gates(fleet, seen, proven, without_client_address=without_client_address)
    return Haproxy(fleet, machine, seen).text(decided)


def tell_gates(
    fleet: Fleet, machine: Machine, seen: Survey, proven: gate.Seen = NOTHING_SEEN
) -> None:
    """Report, in a dry run, which pools there would be in the end."""
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
    """Return a balancer's current and desired pools and rule."""
    before = gate.read(seen.text(CONFIGURATION))
    if without_client_address:
        before = replace(before, ports={})
    return before, gate.decide(fleet, before, proven)

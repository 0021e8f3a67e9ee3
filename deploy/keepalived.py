"""Balancers that share virtual addresses: keepalived on each, and what they may say to each other.

Everything of it lies in /etc/keepalived and one drop-in of systemd's, and goes again when the fleet
file names no virtual addresses any more.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from certsync.model.fleet import Fleet, Machine
from certsync.model.paths import UNITS
from certsync.operator.balancer import vrrp
from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import PEER_PORT
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from deploy import step
from deploy.step import Change, Step, Steps

FOLDER = "/etc/keepalived"
CONFIGURATION = f"{FOLDER}/keepalived.conf"
SCRIPT = f"{FOLDER}/haproxy-serves"
DROP_IN = f"{UNITS}/keepalived.service.d"
UNFINISHED = "/run/certsync-candidate.keepalived"
COMMENT = "comment 'certsync balancers'"
"""UFW shows it with a rule, so that one for a former balancer is known to be ours."""


def packages(fleet: Fleet, seen: Survey) -> Steps:
    """Install keepalived from the distribution, where addresses are shared."""
    if fleet.balancer.virtual_addresses:
        yield step.packages(seen, "Install keepalived", ["keepalived"])


def configure(fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Have the virtual addresses on the balancer whose HAProxy answers, or have none."""
    yield heard("Firewall between balancers", rules(fleet, machine), seen)
    if not fleet.balancer.virtual_addresses:
        yield _given_up(seen)
        return
    interface = interface_of(machine, seen)
    if not interface:
        # What runs there goes on with the files that it has.
        yield step.failing(
            "keepalived.conf",
            f"no interface of this host has the address {machine.private_address}, so its virtual "
            "addresses have none either: write the right private_address into the fleet file",
        )
        return
    source = templates.road() / "templates/keepalived/haproxy-serves"
    yield step.directory(seen, "Folder of keepalived's drop-in", DROP_IN)
    yield step.file(seen, "Question to HAProxy", SCRIPT, source.read_text(), mode="755")
    drop_in = step.file(
        seen,
        "keepalived that comes back",
        f"{DROP_IN}/certsync.conf",
        lambda: templates.keepalived_service(fleet, interface),
    )
    yield drop_in
    yield step.units_read(seen, {"keepalived": drop_in})
    yield _configured(fleet, machine, interface, seen)


def interface_of(machine: Machine, seen: Survey) -> str:
    """Return the interface that has a machine's private address; empty: none has."""
    found = [name for name, address in seen.addresses if address == machine.private_address]
    return found[0] if found else ""


def rules(fleet: Fleet, machine: Machine) -> list[str]:
    """Return what a balancer hears from the others, as UFW's rules."""
    found = []
    for peer in vrrp.peers(fleet, machine):
        found.append(f"allow from {peer.private_address} to any port {PEER_PORT} proto tcp")
        if fleet.balancer.virtual_addresses:
            found.append(f"allow from {peer.private_address} proto vrrp")
    return [f"{rule} {COMMENT}" for rule in found]


def heard(name: str, wanted: Sequence[str], seen: Survey) -> Step:
    """Have these rules between balancers, and none of ours for a former one."""
    gone = [each for each in seen.rules if each.endswith(COMMENT) and each not in wanted]
    # Whether the firewall is switched on is not decided here.
    return step.firewall(seen, wanted, name=name, instead_of=gone)


def _configured(fleet: Fleet, machine: Machine, interface: str, seen: Survey) -> Step:
    """Have this keepalived.conf, tested before it counts, and some balancer with the addresses."""
    name = "keepalived.conf"
    text = templates.keepalived(fleet, machine, interface)
    stopped = not seen.unit("keepalived").runs
    before = seen.text(CONFIGURATION)
    if before == text and not seen.has(UNFINISHED) and not stopped:
        return Step(name)
    changes = step.changed(seen, CONFIGURATION, text)
    if before == text and stopped:
        changes = (Change("keepalived.service", "stopped\n", "running\n"),)
    addresses = [templates.bracketed(each) for each in fleet.balancer.virtual_addresses]
    script = shlex.join(["configure_keepalived", "file", *addresses])
    return Step(name, script, {"file": text}, changes)


def _given_up(seen: Survey) -> Step:
    """Have no keepalived of ours; somebody else's stays as it is."""
    first = seen.text(CONFIGURATION).partition("\n")[0]
    there = facts.MARK in first or seen.has(f"{DROP_IN}/certsync.conf")
    script = shlex.join(["no_keepalived", DROP_IN, SCRIPT, CONFIGURATION])
    return step.command("No virtual addresses", script, needed=there)

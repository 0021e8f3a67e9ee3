"""Balancers that share virtual addresses: keepalived on each, and the firewall between them.

Everything is in /etc/keepalived and one systemd drop-in, and is removed when the fleet file no
longer names virtual addresses.
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
"""A comment on UFW rules that identifies ours for former balancers."""


def packages(fleet: Fleet, seen: Survey) -> Steps:
    """Install keepalived from the distribution if there are virtual addresses."""
    if fleet.balancer.virtual_addresses:
        yield step.packages(seen, "Install keepalived", ["keepalived"])


def configure(fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Keep the virtual addresses on a balancer whose HAProxy answers, or remove keepalived."""
    yield heard("Firewall between balancers", rules(fleet, machine), seen)
    if not fleet.balancer.virtual_addresses:
        yield _given_up(seen)
        return
    interface = interface_of(machine, seen)
    if not interface:
        # A running keepalived continues with the files it has.
        yield step.failing(
            "keepalived.conf",
            f"no interface of this host has the address {machine.private_address}, so the virtual "
            "addresses cannot be assigned: correct its private_address in the fleet file",
        )
        return
    source = templates.road() / "templates/keepalived/haproxy-serves"
    yield step.directory(seen, "Folder of keepalived's drop-in", DROP_IN)
    yield step.file(seen, "HAProxy check script", SCRIPT, source.read_text(), mode="755")
    drop_in = step.file(
        seen,
        "keepalived's restart policy",
        f"{DROP_IN}/certsync.conf",
        lambda: templates.keepalived_service(fleet, interface),
    )
    yield drop_in
    yield step.units_read(seen, {"keepalived": drop_in})
    yield _configured(fleet, machine, interface, seen)


def interface_of(machine: Machine, seen: Survey) -> str:
    """Return the interface that has a machine's private address; empty: none."""
    found = [name for name, address in seen.addresses if address == machine.private_address]
    return found[0] if found else ""


def rules(fleet: Fleet, machine: Machine) -> list[str]:
    """Return the UFW rules for traffic from the other balancers."""
    found = []
    for peer in vrrp.peers(fleet, machine):
        found.append(f"allow from {peer.private_address} to any port {PEER_PORT} proto tcp")
        if fleet.balancer.virtual_addresses:
            found.append(f"allow from {peer.private_address} proto vrrp")
    return [f"{rule} {COMMENT}" for rule in found]


def heard(name: str, wanted: Sequence[str], seen: Survey) -> Step:
    """Set these rules between balancers, and delete ours for former ones."""
    former = [each for each in seen.rules if each.endswith(COMMENT) and each not in wanted]
    # Does not enable the firewall: that is decided elsewhere.
    return step.firewall(seen, wanted, name=name, instead_of=former)


def _configured(fleet: Fleet, machine: Machine, interface: str, seen: Survey) -> Step:
    """Install this keepalived.conf, tested first, and wait until a balancer has the addresses."""
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
    """Remove our keepalived; leave another one alone."""
    first = seen.text(CONFIGURATION).partition("\n")[0]
    is_ours = facts.MARK in first or seen.has(f"{DROP_IN}/certsync.conf")
    script = shlex.join(["no_keepalived", DROP_IN, SCRIPT, CONFIGURATION])
    return step.command("No virtual addresses", script, needed=is_ours)

"""Balancers that share virtual addresses: keepalived on each, and what they may say to each other.

Everything of it lies in /etc/keepalived and one drop-in of systemd's, and goes again when the fleet
file names no virtual addresses any more.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra.operations import files

from certsync import look, templates, vrrp
from certsync.fleet import Fleet, Machine
from certsync.look import PEER_PORT
from deploy.facts import Lines, Text
from deploy.operations import (
    CANDIDATE,
    Commands,
    failing,
    firewall_allows,
    packages_present,
    ran_when,
    written,
)
from deploy.progress import would_write
from deploy.services import running, runs

FOLDER = "/etc/keepalived"
CONFIGURATION = f"{FOLDER}/keepalived.conf"
SCRIPT = f"{FOLDER}/haproxy-serves"
DROP_IN = "/etc/systemd/system/keepalived.service.d"
UNFINISHED = f"{CANDIDATE}.keepalived"
COMMENT = "comment 'certsync balancers'"
"""UFW shows it with a rule, so that one for a balancer that is no more is known to be ours."""

TESTED = """\
log={candidate}.log
rm -f "$log"
setsid --wait keepalived --config-test="$log" --use-file {candidate}
case $? in 0) good=yes ;; 143) test -s "$log" || good=yes ;; esac
[ -z "$good" ] && cat "$log" >&2
rm -f "$log"
[ -n "$good" ] || {{ rm -f {candidate}; exit 1; }}"""
"""Debian 12's keepalived ends every test of a file that names a script by a SIGTERM to its whole
process group, its own mistakes told or not. What it found wrong is in the log."""

IN_SERVICE = """\
for try in $(seq 50); do
  {asked} && exit 0
  sleep 0.2
done
echo 'no balancer has taken the virtual addresses within ten seconds' >&2
exit 1"""
"""The CA's challenges come through them, so nothing goes on before one balancer has them."""


@deploy("Balancers: keepalived")
def packages(fleet: Fleet) -> None:
    """Install keepalived from the distribution, where addresses are shared."""
    if fleet.balancer.virtual_addresses:
        packages_present(name="Install keepalived", packages=["keepalived"])


@deploy("Balancers: virtual addresses")
def configure(fleet: Fleet, machine: Machine) -> None:
    """Have the virtual addresses on the balancer whose HAProxy answers, or have none."""
    heard(name="Firewall between balancers", rules=rules(fleet, machine))
    if not fleet.balancer.virtual_addresses:
        given_up(name="No virtual addresses")
        return
    interface = interface_of(machine)
    source = templates.road() / "templates/keepalived/haproxy-serves"
    files.directory(name="Folder of keepalived's drop-in", path=DROP_IN, mode="755")
    written(name="Question to HAProxy", path=SCRIPT, content=source.read_text(), mode="755")
    drop_in = written(
        name="keepalived that comes back",
        path=f"{DROP_IN}/certsync.conf",
        content=templates.keepalived_service(fleet, interface),
    )
    ran_when(
        name="systemd reads it", command="systemctl daemon-reload", needed=lambda: drop_in.changed
    )
    configured(name="keepalived.conf", fleet=fleet, machine=machine, interface=interface)


def interface_of(machine: Machine) -> str:
    """Return the interface that has a machine's private address; empty: none has."""
    script = f"ip -o address show to {machine.private_address} | awk '{{ print $2 }}'"
    return "".join(host.get_fact(Lines, script=script)[:1])


def rules(fleet: Fleet, machine: Machine) -> list[str]:
    """Return what a balancer hears from the others, as UFW's rules."""
    found = []
    for peer in vrrp.peers(fleet, machine):
        found.append(f"allow from {peer.private_address} to any port {PEER_PORT} proto tcp")
        if fleet.balancer.virtual_addresses:
            found.append(f"allow from {peer.private_address} proto vrrp")
    return [f"{rule} {COMMENT}" for rule in found]


def heard(name: str, rules: Sequence[str]) -> None:
    """Have these rules between balancers, and none of ours for one that is no more."""
    before = host.get_fact(Lines, script="ufw show added | sed -n 's/^ufw //p'")
    firewall_allows(
        name=name,
        rules=rules,
        instead_of=[each for each in before if each.endswith(COMMENT) and each not in rules],
        # Whether it is switched on is not decided here.
        enable=False,
        ssh_port=0,
    )


@operation()
def configured(fleet: Fleet, machine: Machine, interface: str) -> Commands:
    """Have this keepalived.conf, tested before it counts, and some balancer with the addresses."""
    if not interface:
        yield failing(
            f"no interface of this host has the address {machine.private_address}, so its virtual "
            "addresses have none either: write the right private_address into the fleet file"
        )
        return
    text = templates.keepalived(fleet, machine, interface)
    before = host.get_fact(Text, path=CONFIGURATION)
    unfinished = host.get_fact(Lines, script=f"test -e {UNFINISHED} && echo yes")
    stopped = not runs("keepalived")
    if before == text and not unfinished and not stopped:
        host.noop("keepalived is configured")
        return
    would_write(host, CONFIGURATION, before, text)
    if before == text and stopped:
        would_write(host, "keepalived.service", "stopped\n", "running\n")
    candidate = f"{FOLDER}/certsync-candidate.conf"
    yield from written._inner(path=candidate, content=text)
    yield StringCommand(f"sh -c {shlex.quote(TESTED.format(candidate=candidate))}")
    yield StringCommand(f"touch {UNFINISHED} && mv {candidate} {CONFIGURATION}")
    yield StringCommand(f"{running('keepalived')}\nrm -f {UNFINISHED}")
    asked = " && ".join(
        f"socat -u OPEN:/dev/null TCP:{templates.bracketed(each)}:80,connect-timeout=1 2>/dev/null"
        for each in fleet.balancer.virtual_addresses
    )
    yield StringCommand(IN_SERVICE.format(asked=asked))


@operation()
def given_up() -> Commands:
    """Have no keepalived of ours; somebody else's stays as it is."""
    script = f"head -n 1 {CONFIGURATION} | grep {look.MARK!r}; ls -d {DROP_IN}/certsync.conf"
    if not host.get_fact(Lines, script=script):
        host.noop("no virtual addresses")
        return
    # The file that says whose it is goes last: a run that is cut off is finished by the next.
    yield StringCommand("systemctl disable -q --now keepalived")
    yield StringCommand(f"rm -f {SCRIPT} {CONFIGURATION}")
    yield StringCommand(f"rm -f {DROP_IN}/certsync.conf && rmdir {DROP_IN} 2>/dev/null || :")
    yield StringCommand(f"systemctl daemon-reload && rm -f {UNFINISHED}")

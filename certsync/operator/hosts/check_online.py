"""`certsync check --online`: look at every host and at DNS, before anything is deployed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.operator.fleet_file import read_fleet
from certsync.operator.hosts import facts, survey
from certsync.operator.hosts.facts import Adopt, HostFacts
from certsync.system import dns, parallel, ssh
from certsync.system.process import printable

LEAST_DISK_MB = 100
"""For packages, and on the issuer certsync's own environment."""

NOBODYS = Adopt()
CLOCK_SECONDS = 300
"""How far a host's clock may be from this machine's."""


def check_online(path: Path, now: datetime, tell: Callable[[str], None]) -> list[Finding]:
    """Return what is wrong on the hosts of a fleet file, and with its names' records.

    Raises:
        FleetFileError: the file has mistakes.
    """
    fleet = read_fleet(path)
    names = [name for each in fleet.lineages for name in each.names]
    tell(f"looking at {len(fleet.machines)} hosts and {len(names)} names")
    of_hosts = parallel.each(lambda machine: look_at(fleet, machine, now), fleet.machines)
    found = [finding for findings in of_hosts for finding in findings]
    answers = dns.look_up_all(names)
    return found + [each for one in fleet.lineages for each in of_names(fleet, one.names, answers)]


def look_at(fleet: Fleet, machine: Machine, now: datetime, adopt: Adopt = NOBODYS) -> list[Finding]:
    """Return what is wrong with a host, from a look at it now."""
    try:
        done = ssh.on(machine, fleet.known_hosts, survey.script())
    except HostError as error:
        message = error.why
        return [Finding(machine.name, message, error.hint)]
    seen = facts.parse(done.stdout.splitlines())
    return of_host(fleet, machine, seen, now, adopt) + _of_shell(machine, done.noise)


def _of_shell(machine: Machine, noise: str) -> list[Finding]:
    if not noise:
        return []
    said = printable(noise.splitlines()[0])
    message = f"its login shell prints something when a command is run ({said!r}); that is skipped"
    return [Finding(machine.name, message, ssh.SHELL, stops=False)]


def of_host(
    fleet: Fleet, machine: Machine, seen: HostFacts, now: datetime, adopt: Adopt = NOBODYS
) -> list[Finding]:
    """Return what is wrong with a host, from what was seen there."""
    found = facts.objections(fleet, machine, seen, adopt)
    if seen.os not in facts.SUPPORTED | facts.BY_READING:
        found.append(
            Finding(
                machine.name,
                f"it runs {' '.join(seen.os)}, which certsync does not know",
                "Debian 12 or 13, Ubuntu 22.04, 24.04 or 26.04",
            )
        )
    if seen.disk_mb is not None and seen.disk_mb < LEAST_DISK_MB:
        found.append(
            Finding(
                machine.name,
                f"its disk has {seen.disk_mb} MB left, and {LEAST_DISK_MB} are needed",
                "make room: apt-get clean, journalctl --vacuum-size=100M, df -h",
            )
        )
    off = seen.time - now.timestamp()
    if abs(off) > CLOCK_SECONDS:
        side = "ahead of" if off > 0 else "behind"
        message = f"its clock is {abs(off) / 60:.0f} minutes {side} this machine's"
        found.append(Finding(machine.name, message, "timedatectl set-ntp true"))
    if machine == fleet.issuer and not seen.python:
        found.append(Finding(machine.name, "the issuer has no python3", "apt install python3"))
    return found + _of_limit(fleet, machine, seen)


def _of_limit(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    ssh = {"OpenSSH", "SSH", "22", "ssh"} if machine.ssh_port == 22 else set()
    ssh |= {str(machine.ssh_port), f"{machine.ssh_port}/tcp"}
    if machine not in fleet.replicas or not ssh & set(seen.limited):
        return []
    return [
        Finding(
            machine.name,
            "UFW has a `limit` rule on SSH: pushes that come close together would be refused",
            f"let the issuer in before it: ufw insert 1 allow from "
            f"{fleet.issuer.private_address} to any port {machine.ssh_port} proto tcp",
        )
    ]


def of_names(fleet: Fleet, names: Sequence[str], answers: dict[str, dns.Found]) -> list[Finding]:
    """Return what is wrong with the names' records; a missing one is only told."""
    records = f"set: {'; '.join(dns.records(fleet, names))}"
    again = "run the same command again, and look at this machine's resolver if it says so again"
    return [
        Finding(
            "DNS",
            each.message,
            again if each.unknown else records if each.stops else "",
            stops=each.stops or each.unknown,
        )
        for each in dns.findings(fleet, names, answers)
    ]

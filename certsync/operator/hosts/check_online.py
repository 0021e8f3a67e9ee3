"""`certsync check --online`: check every host and DNS before anything is deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.model.options import Scheduler
from certsync.operator.balancer.managed.driven import NAME
from certsync.operator.fleet_file import read_fleet
from certsync.operator.hosts import between, caa, epochs, facts, host_keys, objections, survey
from certsync.operator.hosts.facts import Adopt, HostFacts
from certsync.operator.hosts.survey import Survey
from certsync.operator.watching import load_balancer
from certsync.system import dns, parallel, ssh
from certsync.system.process import Completed, printable

LEAST_DISK_MB = 100
"""For packages, and for certsync's virtual environment on the issuer."""

ADOPT_NOTHING = Adopt()
TIMER = "/etc/systemd/system/certsync-renew.timer"
NOT_RUN = "the survey did not run: {}"
NOT_RUN_HINT = "is it Debian or Ubuntu, with /etc/os-release? `sh -c '. /etc/os-release'` there"
NO_ANSWERS: Mapping[str, dns.Found] = {}
ONLY_HERE = (
    "{} resolves it as it should, and orders by that; this machine's /etc/hosts or resolver differs"
)
ONLY_THERE = (
    "{} there; this machine finds the right records, but orders go by the issuer's resolver"
)
RESOLVER = "look at its /etc/hosts and its resolver; `getent ahosts {}` there shows what it finds"
CLOCK_SECONDS = 300
"""How far a host's clock may be off from this machine's."""


def check_online(path: Path, now: datetime, tell: Callable[[str], None]) -> list[Finding]:
    """Return what is wrong with a fleet's hosts and DNS records.

    Raises:
        FleetFileError: the file has mistakes.
    """
    fleet = read_fleet(path)
    names = [name for each in fleet.lineages for name in each.names]
    tell(f"checking {len(fleet.machines)} hosts and {len(names)} names")
    looks = parallel.each(lambda machine: look(fleet, machine, now), fleet.machines)
    found = [finding for each in looks for finding in each.findings]
    machines = zip(fleet.machines, looks, strict=True)
    surveys = {host.name: each.seen for host, each in machines if each.seen}
    found += of_fleet(fleet, surveys)
    answers = dns.look_up_all(names)
    wrong, issuer = between.ask(fleet, surveys, names)
    found += wrong
    for one in fleet.lineages:
        found += of_names(fleet, one.names, answers, issuer.names)
    provider = load_balancer.look(fleet, joining=fleet.backends)
    notes = [Finding(NAME, each, stops=False) for each in provider.notes]
    return [*found, *caa.look(fleet), *provider.findings, *notes]


@dataclass(frozen=True)
class Look:
    """What a host is like, and what is wrong with it."""

    findings: list[Finding]
    seen: Survey | None = None
    """None: it was not surveyed."""


def look_at_new(fleet: Fleet, new: Sequence[Machine], now: datetime, adopt: Adopt) -> list[Finding]:
    """Return what is wrong with hosts that join, or with the issuer's way to them."""
    hosts = [*new, fleet.issuer]
    looks = parallel.each(lambda machine: look(fleet, machine, now, adopt), hosts)
    surveys = {host.name: each.seen for host, each in zip(hosts, looks, strict=True) if each.seen}
    wrong, _ = between.ask(fleet, surveys, [])
    return [finding for each in looks[: len(new)] for finding in each.findings] + wrong


def look(fleet: Fleet, machine: Machine, now: datetime, adopt: Adopt = ADOPT_NOTHING) -> Look:
    """Survey a host; a host that cannot be surveyed is a finding."""
    try:
        done = ssh.on(machine, fleet.known_hosts, survey.script())
    except HostError as error:
        return Look([Finding(machine.name, error.why, error.hint)])
    seen = survey.parse(done.stdout.splitlines())
    noise = _of_shell(machine, done.noise)
    if not seen.facts.time or not seen.facts.os[0]:
        why = (
            Completed(done.status, "", done.stderr).error_summary
            or f"exit status {done.status} without a word"
        )
        return Look([Finding(machine.name, NOT_RUN.format(why), NOT_RUN_HINT), *noise])
    found = of_host(fleet, machine, seen.facts, now, adopt) + of_renewal(fleet, machine, seen)
    return Look(found + noise, seen)


def of_fleet(fleet: Fleet, surveys: Mapping[str, Survey]) -> list[Finding]:
    """Return what is wrong between hosts, as a deploy would; ``surveys`` are by name."""
    return epochs.objections(fleet, surveys) + host_keys.shared(surveys)


def of_renewal(fleet: Fleet, machine: Machine, seen: Survey) -> list[Finding]:
    """Return what keeps the hourly run from being started on the issuer."""
    if machine != fleet.issuer:
        return []
    if fleet.renewal.scheduler is Scheduler.SYSTEMD:
        if not seen.has(TIMER) or seen.unit("certsync-renew.timer").runs:
            return []
        why = "certsync-renew.timer does not run, so nothing renews the certificate"
        return [Finding(machine.name, why, "certsync deploy FLEET starts it", stops=False)]
    found = []
    if "cron" in seen.packages and not seen.unit("cron").runs:
        why = "cron is installed but not running, so it would not start the hourly run"
        unmask = "systemctl unmask cron && " if seen.unit("cron").enabled == "masked" else ""
        hint = f'{unmask}systemctl enable --now cron; or set scheduler = "systemd" under [renewal]'
        found.append(Finding(machine.name, why, hint, stops=False))
    return found


def _of_expired(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    by_cron = machine == fleet.issuer and fleet.renewal.scheduler is Scheduler.CRON
    return [
        Finding(
            machine.name,
            f"the password or the account of {printable(user)} has expired"
            + (", so cron runs nothing for root" if by_cron and user == "root" else ""),
            f"as root there: {ssh.RENEW.format(printable(user))}",
            stops=False,
        )
        for user in seen.expired
    ]


def _of_shell(machine: Machine, noise: str) -> list[Finding]:
    if not noise:
        return []
    first = printable(noise.splitlines()[0])
    message = f"its login shell prints text when it runs a command ({first!r}); it is ignored"
    return [Finding(machine.name, message, ssh.SHELL, stops=False)]


def of_host(
    fleet: Fleet, machine: Machine, seen: HostFacts, now: datetime, adopt: Adopt = ADOPT_NOTHING
) -> list[Finding]:
    """Return what is wrong with a host, by its facts."""
    found = objections.objections(fleet, machine, seen, adopt)
    if seen.os not in facts.SUPPORTED | facts.BY_READING:
        found.append(
            Finding(
                machine.name,
                f"it runs {_system(seen)}, which certsync does not support",
                "use Debian 12 or 13, or Ubuntu 22.04, 24.04 or 26.04",
            )
        )
    if seen.disk_mb is not None and seen.disk_mb < LEAST_DISK_MB:
        found.append(
            Finding(
                machine.name,
                f"its disk has {seen.disk_mb} MB free; {LEAST_DISK_MB} MB are needed",
                "free some space: apt-get clean, journalctl --vacuum-size=100M; see df -h",
            )
        )
    off = seen.time - now.timestamp()
    if abs(off) > CLOCK_SECONDS:
        side = "ahead of" if off > 0 else "behind"
        message = f"its clock is {abs(off) / 60:.0f} minutes {side} this machine's"
        found.append(Finding(machine.name, message, "timedatectl set-ntp true"))
    if machine == fleet.issuer and not seen.python:
        found.append(Finding(machine.name, "the issuer has no python3", "apt install python3"))
    found += _of_limit(fleet, machine, seen) + _of_expired(fleet, machine, seen)
    return found + _of_history(fleet, machine, seen)


def _of_history(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    """Return whether private keys end up in a repository of /etc, where nothing deletes them."""
    if not seen.history or machine not in fleet.backends:
        return []
    kind = printable(seen.history)
    forget = "git -C /etc rm -r --cached --quiet certsync" if kind == "git" else f"see {kind}(1)"
    return [
        Finding(
            machine.name,
            f"/etc is a {kind} repository (etckeeper's?), which keeps the private keys in "
            "/etc/certsync, even after they were replaced",
            f"as root there: echo /certsync/ >> /etc/.{kind}ignore; {forget}; commits that have "
            "keys already stay, until the repository is made anew",
            stops=False,
        )
    ]


def _system(seen: HostFacts) -> str:
    name, version = seen.os
    # Debian testing and unstable have none.
    return f"{name} {version or 'without a version number'}"


def _of_limit(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    ssh = {"OpenSSH", "SSH", "22", "ssh"} if machine.ssh_port == 22 else set()
    ssh |= {str(machine.ssh_port), f"{machine.ssh_port}/tcp"}
    if machine not in fleet.backends or not ssh & set(seen.limited):
        return []
    allow = f"ufw insert 1 allow from {{}} to any port {machine.ssh_port} proto tcp"
    if machine == fleet.issuer:
        why = "UFW has a `limit` rule on SSH, which would block pushes once another is the issuer"
        hint = f"allow each other backend ahead of it: {allow.format('ADDRESS')}"
        return [Finding(machine.name, why, hint, stops=False)]
    why = "UFW has a `limit` rule on SSH, which would block frequent pushes"
    hint = f"allow the issuer ahead of it: {allow.format(fleet.issuer.private_address)}"
    return [Finding(machine.name, why, hint)]


def of_names(
    fleet: Fleet,
    names: Sequence[str],
    answers: Mapping[str, dns.Found],
    issuers: Mapping[str, dns.Found] = NO_ANSWERS,
) -> list[Finding]:
    """Return what is wrong with the names' DNS records; a missing record is only a note.

    ``answers`` are of this machine's resolver, ``issuers`` of the issuer's, which decides whether a
    name is ordered.
    """
    known = [name for name in names if name in issuers]
    there = {each.name: each for each in dns.findings(fleet, known, issuers) if each.stops}
    found = list[Finding]()
    for each in dns.findings(fleet, names, answers):
        wrong = each.stops or each.unknown
        if wrong and each.name in known and each.name not in there:
            hint = ONLY_HERE.format(fleet.issuer_name)
            found.append(Finding("DNS", each.message, hint, stops=False))
            continue
        again = "run the same command again; if it fails again, check this machine's resolver"
        hint = again if each.unknown else dns.to_set(fleet, names, [each]) if each.stops else ""
        found.append(Finding("DNS", each.message, hint, stops=wrong))
        if wrong:
            there.pop(each.name, None)
    return found + [
        Finding(fleet.issuer_name, ONLY_THERE.format(each.message), RESOLVER.format(each.name))
        for each in there.values()
    ]

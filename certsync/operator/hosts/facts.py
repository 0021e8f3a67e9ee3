"""What stands on a host before certsync touches it, and whether it is somebody else's. Pure.

`parse` reads lines of the survey (certsync/programs/survey.sh): each is a word and its values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.model.options import Provider, Stickiness

MARK = "Written by certsync"
"""In the first line of every file we write."""

BALANCER = "balancer"
"""Behind a balancer's name in the issuer's list of machines."""

STATISTICS_PORT = 8404
"""Where a balancer shows what it sees, on its loopback."""

PEER_PORT = 10000
"""Where balancers tell each other what they remember of clients."""

SUPPORTED = {("debian", "12"), ("debian", "13")}
BY_READING = {("ubuntu", "22.04"), ("ubuntu", "24.04"), ("ubuntu", "26.04")}
OLDEST_UBUNTU = ("ubuntu", "22.04")
OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Listener:
    """A program that holds a port."""

    port: int
    program: str
    """Its name; `?` where the kernel does not say."""

    process: int


@dataclass(frozen=True)
class HostFacts:
    """What a host is like."""

    os: tuple[str, str] = ("", "")
    arch: str = ""
    time: int = 0
    """The host's clock, in seconds since 1970."""

    disk_mb: int | None = None
    """What is free, in MB, where we write: the least of the disks; None: not known."""

    python: tuple[int, ...] = ()
    listeners: tuple[Listener, ...] = ()
    haproxy: str = ""
    """`ours`, `distribution` or `foreign`; empty: no haproxy.cfg."""

    keepalived: str = ""
    """The same of keepalived.conf."""

    nginx_sites: tuple[tuple[str, str], ...] = ()
    """Origin and path of each enabled site."""

    issuer: bool = False
    known_balancers: tuple[str, ...] = ()
    """Those of the next that are balancers."""

    known_machines: tuple[str, ...] = ()
    """On an issuer: the machines of the fleet it was deployed with."""

    ufw: str = ""
    """`active` or `inactive`; empty: not installed."""

    limited: tuple[str, ...] = ()
    """What UFW has a `limit` rule on."""


def parse(lines: Sequence[str]) -> HostFacts:
    """Return what the script's output says; a line that says nothing of that is left out."""
    words = [word for line in lines if (word := line.split(" "))[1:] or line == "issuer"]
    first = {word[0]: word[1:] for word in reversed(words)}
    os_id, os_version = (*first.get("os", []), "", "")[:2]
    return HostFacts(
        os=(os_id, os_version),
        arch=_first(first, "arch"),
        time=int(_first(first, "time")) if _is_number(_first(first, "time")) else 0,
        disk_mb=int(_first(first, "disk")) if _is_number(_first(first, "disk")) else None,
        python=tuple(int(part) for part in _first(first, "python").split(".") if _is_number(part)),
        listeners=tuple(
            dict.fromkeys(
                Listener(int(word[1]), " ".join(word[3:]), int(word[2]))
                for word in words
                if word[0] == "listener" and word[3:] and all(map(_is_number, word[1:3]))
            )
        ),
        haproxy=_first(first, "haproxy"),
        keepalived=_first(first, "keepalived"),
        nginx_sites=tuple((word[1], " ".join(word[2:])) for word in words if word[0] == "nginx"),
        issuer="issuer" in first,
        known_balancers=tuple(
            word[1] for word in words if word[0] == "known" and word[2:] == [BALANCER]
        ),
        known_machines=tuple(word[1] for word in words if word[0] == "known"),
        ufw=_first(first, "ufw"),
        limited=tuple(word[1] for word in words if word[0] == "limit"),
    )


def _is_number(text: str) -> bool:
    """Return whether it is one that any use of it can bear."""
    return re.fullmatch("[0-9]{1,15}", text) is not None


def _first(words: dict[str, list[str]], key: str) -> str:
    values = words.get(key)
    return values[0] if values else ""


@dataclass(frozen=True)
class Adopt:
    """Whose files a person has said may be taken over, a dated copy kept."""

    nginx: bool = False
    haproxy: bool = False


def objections(
    fleet: Fleet, machine: Machine, seen: HostFacts, adopt: Adopt, *, promoting: bool = False
) -> list[Finding]:
    """Return why this host is somebody else's, or not fit; empty: go on.

    ``promoting``: one that has been the issuer is about to stop being it.
    """
    backend = machine in fleet.backends
    found = _of_system(fleet, machine, seen)
    found += _of_ports(fleet, machine, seen)
    found += _of_nginx(fleet, machine, seen, adopt) if backend else []
    found += [] if backend else _of_haproxy(machine, seen, adopt)
    found += [] if backend else _of_keepalived(fleet, machine, seen)
    return found + _of_issuer(fleet, machine, seen, promoting=promoting)


def _of_system(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    """Return what a release's own packages are too old for."""
    if seen.os != OLDEST_UBUNTU:
        return []
    hint = "use Ubuntu 24.04, Debian 12 or a later one"
    if machine in fleet.backends and fleet.has_several:
        why = "its nginx (1.18) cannot refuse a name of no certificate (1.19.4): one lineage only"
        return [Finding(machine.name, why, f"{hint}, or take [lineages] out of the fleet file")]
    if machine in fleet.balancers and fleet.balancer.virtual_addresses and seen.ufw:
        why = "its UFW (0.36.1) has no rules for VRRP (0.36.2), and balancers would not hear others"
        return [Finding(machine.name, why, f"{hint}, or remove ufw and use another firewall")]
    return []


def ports(fleet: Fleet, machine: Machine) -> dict[int, str]:
    """Return the ports that our server on a machine listens on, with what to try if one is taken.

    With one of them taken a reload keeps the configuration from before, and says nothing.
    """
    leave = f"stop and disable it, or take {machine.name} out of the fleet file"
    needed = {80: leave, 443: leave}
    if machine in fleet.backends:
        other = "stop and disable it, or write another number as proxy_port under [balancing]"
        return {fleet.balancing.proxy_port: other, **needed}
    move = "have it listen on another port, or stop and disable it: HAProxy"
    needed[STATISTICS_PORT] = f"{move} shows its statistics there, on 127.0.0.1"
    balancing = fleet.balancing
    if balancing.stickiness is not Stickiness.NONE or balancing.connections_per_client:
        needed[PEER_PORT] = f"{move} keeps there what stickiness and connections_per_client need"
    return needed


def _of_ports(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    allowed = "nginx" if machine in fleet.backends else "haproxy"
    needed = ports(fleet, machine)
    programs: dict[tuple[str, int, str], list[int]] = {}
    for each in seen.listeners:
        if each.program != allowed and each.port in needed:
            programs.setdefault((each.program, each.process, needed[each.port]), []).append(
                each.port
            )
    return [
        Finding(
            machine.name,
            f"port {' and '.join(str(port) for port in sorted(set(taken)))} is held by "
            f"{'an unknown program' if program == '?' else f'{program} (process {process})'}",
            hint,
        )
        for (program, process, hint), taken in programs.items()
    ]


def foreign_sites(fleet: Fleet, seen: HostFacts) -> list[str]:
    """Return the enabled nginx sites that are neither ours nor expected beside ours.

    Where one lineage's site is a person's own, nothing tells that one from the others.
    """
    if not fleet.is_managed:
        return []
    return [path for origin, path in seen.nginx_sites if origin == "foreign"]


def _of_nginx(fleet: Fleet, machine: Machine, seen: HostFacts, adopt: Adopt) -> list[Finding]:
    return [
        Finding(
            machine.name,
            f"{path} is an nginx site that certsync did not write",
            'keep it with site.kind = "unmanaged", or have it put aside with --adopt-nginx',
        )
        for path in foreign_sites(fleet, seen)
        if not adopt.nginx
    ]


def _of_haproxy(machine: Machine, seen: HostFacts, adopt: Adopt) -> list[Finding]:
    if seen.haproxy != "foreign" or adopt.haproxy:
        return []
    return [
        Finding(
            machine.name,
            "/etc/haproxy/haproxy.cfg is neither the distribution's nor certsync's",
            "have it put aside, a dated copy kept, with --adopt-haproxy",
        )
    ]


def _of_keepalived(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    if seen.keepalived != "foreign" or not fleet.balancer.virtual_addresses:
        return []
    return [
        Finding(
            machine.name,
            "/etc/keepalived/keepalived.conf is not certsync's",
            "move it away, or leave it to it and take balancer.virtual_addresses out of the fleet "
            "file",
        )
    ]


def _of_issuer(
    fleet: Fleet, machine: Machine, seen: HostFacts, *, promoting: bool
) -> list[Finding]:
    found = []
    if seen.issuer and machine.name != fleet.issuer_name and not promoting:
        found.append(
            Finding(
                machine.name,
                f"it is this fleet's issuer, and the fleet file names {fleet.issuer_name}",
                "pull the newer fleet file, or have the other one take over: "
                f"certsync promote FLEET {fleet.issuer_name}",
            )
        )
    names = {each.name for each in fleet.machines}
    gone = [name for name in seen.known_machines if name not in names]
    if fleet.balancer.provider is Provider.NONE:
        # That the fleet has none of its own any more, its file says in so many words.
        gone = [name for name in gone if name not in seen.known_balancers]
    # One that takes over may know who was there when it began to; the old one was asked.
    if gone and machine.name == fleet.issuer_name and not promoting:
        found.append(
            Finding(
                machine.name,
                f"the issuer knows {', '.join(gone)}, and the fleet file does not",
                "pull the newer fleet file, or " + _how_it_leaves(fleet, gone, seen),
            )
        )
    if machine.name == fleet.issuer_name and seen.python and seen.python < OLDEST_PYTHON:
        version = ".".join(str(part) for part in seen.python)
        found.append(
            Finding(machine.name, f"the issuer has Python {version}", "it needs 3.10 or newer")
        )
    return found


def _how_it_leaves(fleet: Fleet, gone: Sequence[str], seen: HostFacts) -> str:
    if fleet.balancer.provider is Provider.NONE and not seen.known_balancers:
        # A list that an older certsync wrote does not say which of them are balancers.
        return (
            "take a backend out with `certsync remove-backend`; if these are its balancers, deploy "
            'once with them in the fleet file, and write provider = "none" then'
        )
    if set(gone) <= set(seen.known_balancers):
        return "once it is switched off for good, take its line out of /etc/certsync/machines there"
    return "take it out with `certsync remove-backend`"


def describe(found: Sequence[Finding]) -> str:
    """Return the objections as lines, each with its hint."""
    return "\n".join(each.full() for each in found)

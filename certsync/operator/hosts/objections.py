"""Whether a host is somebody else's, or unfit: why a deploy changes nothing on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.model.identity import Identity
from certsync.model.options import Provider, Stickiness
from certsync.operator.hosts.facts import (
    PEER_PORT,
    STATISTICS_PORT,
    Adopt,
    HostFacts,
    Listener,
)
from certsync.programs.receiver import RECEIVING_USER

OLDEST_UBUNTU = ("ubuntu", "22.04")
OLDEST_PYTHON = (3, 10)
OTHER_NGINX = (
    "remove it and its apt source, then install the distribution's: apt-get remove 'nginx*' && "
    "rm /etc/apt/sources.list.d/nginx* && apt-get update && apt-get install nginx"
)
INCLUDES = {
    "sites-enabled": "/etc/nginx/sites-enabled/*", "conf.d": "/etc/nginx/conf.d/*.conf",
}  # fmt: skip


def is_copy_of_issuer(seen: HostFacts) -> bool:
    """Return whether a host has an issuer's disk, but is another machine than that issuer was."""
    address = seen.original_address
    own = Identity(seen.machine, not address or address in seen.addresses)
    return seen.issuer and bool(seen.original.differs(own))


def objections(
    fleet: Fleet, machine: Machine, seen: HostFacts, adopt: Adopt, *, promoting: bool = False
) -> list[Finding]:
    """Return why this host is somebody else's, or unfit; empty: it is fine.

    ``promoting``: another backend is taking over the issuer's role.
    """
    backend = machine in fleet.backends
    found = _of_system(fleet, machine, seen)
    found += _of_ports(fleet, machine, seen)
    found += _of_account(machine, seen) if backend else []
    found += _of_nginx(fleet, machine, seen, adopt) if backend else []
    found += [] if backend else _of_haproxy(machine, seen, adopt)
    found += [] if backend else _of_keepalived(fleet, machine, seen)
    return found + _of_issuer(fleet, machine, seen, promoting=promoting)


def _of_system(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    """Return features that the distribution's packages are too old for."""
    if seen.os != OLDEST_UBUNTU:
        return []
    hint = "use Ubuntu 24.04, Debian 12 or later"
    if machine in fleet.backends and fleet.has_several:
        why = "its nginx 1.18 cannot refuse unknown names (1.19.4 can), so it takes one lineage"
        return [Finding(machine.name, why, f"{hint}, or remove [lineages] from the fleet file")]
    if machine in fleet.balancers and fleet.balancer.virtual_addresses and seen.ufw:
        why = "its UFW 0.36.1 cannot allow VRRP (0.36.2 can), which the balancers need"
        return [Finding(machine.name, why, f"{hint}, or remove ufw and use another firewall")]
    return []


def ports(fleet: Fleet, machine: Machine) -> dict[int, str]:
    """Return the ports that our server on a machine needs, each with a hint if it is taken.

    If one is taken, a reload silently keeps the old configuration.
    """
    leave = f"stop and disable it, or remove {machine.name} from the fleet file"
    needed = {80: leave, 443: leave}
    if machine in fleet.backends:
        other = "stop and disable it, or set another proxy_port under [balancing]"
        return {fleet.balancing.proxy_port: other, **needed}
    move = "move it to another port, or stop and disable it: HAProxy needs this one for"
    needed[STATISTICS_PORT] = f"{move} its statistics, on 127.0.0.1"
    balancing = fleet.balancing
    if balancing.stickiness is not Stickiness.NONE or balancing.connections_per_client:
        needed[PEER_PORT] = f"{move} stickiness and connections_per_client"
    return needed


def _of_ports(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    allowed = "nginx" if machine in fleet.backends else "haproxy"
    needed = ports(fleet, machine)
    programs: dict[tuple[str, str], list[int]] = {}
    for each in seen.listeners:
        if each.port in needed and not _is_distributions(each, allowed):
            key = (_described(each, allowed), needed[each.port])
            programs.setdefault(key, []).append(each.port)
    return [
        Finding(
            machine.name,
            f"port {' and '.join(str(port) for port in sorted(set(taken)))} is in use by {program}",
            hint,
        )
        for (program, hint), taken in programs.items()
    ]


def _is_distributions(listener: Listener, name: str) -> bool:
    """Return whether a listener is a program of the distribution's, run as its own unit.

    GitLab and OpenResty have an nginx of their own, and so may a container in the host's network.
    """
    return (
        listener.program == name
        and listener.path in {"", f"/usr/sbin/{name}"}
        and listener.unit in {"", f"{name}.service"}
    )


def _described(listener: Listener, name: str) -> str:
    if listener.program == "?":
        return "an unknown program"
    what = f"{listener.program} (process {listener.process})"
    if listener.program != name:
        return what
    where = f"{listener.path or 'it'} in {listener.unit or 'no unit'}"
    own = f"/usr/sbin/{name} in {name}.service"
    return f"{what}, which is not the distribution's: {where}, not {own}"


def _of_account(machine: Machine, seen: HostFacts) -> list[Finding]:
    if not seen.account:
        return []
    return [
        Finding(
            machine.name,
            f"it has an account `{RECEIVING_USER}` (home {seen.account}), the name of the user "
            "that receives certificates, whose home and shell a deploy would change",
            f"rename it: usermod -l NAME {RECEIVING_USER} && groupmod -n NAME {RECEIVING_USER}",
        )
    ]


def foreign_sites(fleet: Fleet, seen: HostFacts) -> list[str]:
    """Return the enabled nginx sites that are neither ours nor expected beside ours.

    With an unmanaged site there are none: it cannot be told apart from other foreign sites.
    """
    if not fleet.is_managed:
        return []
    return [path for origin, path in seen.nginx_sites if origin == "foreign"]


def _of_nginx(fleet: Fleet, machine: Machine, seen: HostFacts, adopt: Adopt) -> list[Finding]:
    if seen.other_nginx:
        # Refused whatever is adopted: it has no sites-enabled, snippets or UFW profile.
        why = f"its nginx is not the distribution's: {seen.other_nginx}"
        return [Finding(machine.name, why, OTHER_NGINX)]
    if fleet.is_managed and seen.nginx_without:
        folders = " and ".join(seen.nginx_without)
        why = f"/etc/nginx/nginx.conf does not include {folders}, so nginx would not see our files"
        lines = " ".join(f"`include {INCLUDES[each]};`" for each in seen.nginx_without)
        return [Finding(machine.name, why, f"add to its http block: {lines}")]
    return [
        Finding(
            machine.name,
            f"{path} is an nginx site that certsync did not write",
            'keep it with site.kind = "unmanaged", or move it aside with --adopt-nginx',
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
            "replace it with --adopt-haproxy, which keeps a dated copy",
        )
    ]


def _of_keepalived(fleet: Fleet, machine: Machine, seen: HostFacts) -> list[Finding]:
    if seen.keepalived != "foreign" or not fleet.balancer.virtual_addresses:
        return []
    return [
        Finding(
            machine.name,
            "/etc/keepalived/keepalived.conf is not certsync's",
            "move it away, or remove balancer.virtual_addresses from the fleet file",
        )
    ]


def _of_issuer(
    fleet: Fleet, machine: Machine, seen: HostFacts, *, promoting: bool
) -> list[Finding]:
    found = []
    is_other = seen.issuer and machine.name != fleet.issuer_name
    if is_other and not promoting and not is_copy_of_issuer(seen):
        found.append(
            Finding(
                machine.name,
                f"it is this fleet's issuer, but the fleet file names {fleet.issuer_name}",
                f"pull the newer fleet file, or promote {fleet.issuer_name}: "
                f"certsync promote FLEET {fleet.issuer_name}",
            )
        )
    names = {each.name for each in fleet.machines}
    gone = [name for name in seen.known_machines if name not in names]
    if fleet.balancer.provider is not Provider.HAPROXY:
        # The fleet file says explicitly that the fleet no longer has balancers of its own.
        gone = [name for name in gone if name not in seen.known_balancers]
    # A promotion has checked this with the old issuer; the new one's list may be outdated.
    if gone and machine.name == fleet.issuer_name and not promoting:
        found.append(
            Finding(
                machine.name,
                f"the issuer knows {', '.join(gone)}, but the fleet file does not",
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
    if fleet.balancer.provider is not Provider.HAPROXY and not seen.known_balancers:
        # A list written by an older certsync does not say which machines are balancers.
        return (
            "remove a backend with `certsync remove-backend`; if these are its balancers, first "
            "deploy with them in the fleet file, then set balancer.provider"
        )
    if set(gone) <= set(seen.known_balancers):
        return "switch it off permanently, then remove its line from /etc/certsync/machines there"
    return "remove it with `certsync remove-backend`"


def describe(found: Sequence[Finding]) -> str:
    """Return the findings as lines, each with its hint."""
    return "\n".join(each.full() for each in found)

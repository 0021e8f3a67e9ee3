"""What hosts of a fleet need of each other: the issuer's way to the replicas, and its resolver."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.operator.hosts import admission, survey
from certsync.operator.hosts.survey import Survey
from certsync.programs import command
from certsync.programs.receiver import RECEIVING_USER
from certsync.system import dns, parallel, ssh

WAYS = {
    "refused": "nothing listens there",
    "unroutable": "it has no route to it",
    "silent": "nothing answers there",
}
"""What `programs/reaches.sh` calls a port that is not sshd's, in words."""

DIRECT = (
    "pushes go there directly, not through a jump host: allow {} to TCP port {} there, or give it "
    "a private_address that {} reaches"
)
OTHER_SOURCE = (
    "its connections to {} come from {}, but replicas accept pushes only from {}, its "
    "private_address"
)
SET_ADDRESS = (
    "set private_address of {} to {}, or private_address of {} to one that it reaches from {}; "
    "`ip route get` there shows which"
)
TRANSLATED = "set its private_address to {}, unless its address is translated on the way (NAT)"
REFUSED = "its sshd would refuse the issuer's pushes, which come as {} from {}: {}"


@dataclass(frozen=True)
class Way:
    """How the issuer reaches a replica."""

    state: str
    """`open`, or a key of `WAYS`."""

    source: str
    """The address that its connections come from; empty: unknown."""


@dataclass(frozen=True)
class Issuer:
    """What the issuer answers."""

    ways: Mapping[str, Way]
    """By the replica's private address."""

    names: Mapping[str, dns.Found]
    """What each name resolves to there."""


NOTHING = Issuer({}, {})


def ask(
    fleet: Fleet, surveys: Mapping[str, Survey], names: Sequence[str]
) -> tuple[list[Finding], Issuer]:
    """Ask the reached hosts, and return what is wrong, and the issuer's answer.

    ``surveys`` are those of the reached hosts, by name. A host that does not answer here has no
    finding: it has one already, or is slow.
    """
    replicas = [each for each in fleet.replicas if each.name in surveys]
    refused = parallel.each(lambda each: _of_sshd(fleet, each), replicas)
    found = [finding for each in refused for finding in each]
    if fleet.issuer_name not in surveys:
        return found, NOTHING
    issuer = _asked(fleet, replicas, names)
    own = {address for _, address in surveys[fleet.issuer_name].addresses}
    return found + of_ways(fleet, replicas, issuer.ways, own), issuer


def of_next_issuer(fleet: Fleet, without: Machine | None = None) -> list[Finding]:
    """Return what would keep the pushes of a backend that becomes the issuer from the replicas.

    ``without`` is a host that is not asked, because it is dead.
    """
    try:
        done = ssh.on(fleet.issuer, fleet.known_hosts, survey.script())
    except HostError:
        return []
    surveys = {each.name: Survey() for each in fleet.replicas if each != without}
    surveys[fleet.issuer_name] = survey.parse(done.stdout.splitlines())
    return ask(fleet, surveys, [])[0]


def _of_sshd(fleet: Fleet, machine: Machine) -> list[Finding]:
    address = fleet.issuer.private_address
    words = (RECEIVING_USER, address, machine.private_address, str(machine.ssh_port))
    try:
        done = ssh.on(machine, fleet.known_hosts, command("admits.sh", *words))
    except HostError:
        return []
    why, hint = admission.refusal(done.stdout.splitlines(), address)
    return (
        [Finding(machine.name, REFUSED.format(RECEIVING_USER, address, why), hint)] if why else []
    )


def _asked(fleet: Fleet, replicas: Sequence[Machine], names: Sequence[str]) -> Issuer:
    places = [word for each in replicas for word in (each.private_address, str(each.ssh_port))]
    try:
        done = ssh.on(fleet.issuer, fleet.known_hosts, command("reaches.sh", *places, "--", *names))
    except HostError:
        return NOTHING
    return parse(done.stdout.splitlines())


def parse(lines: Sequence[str]) -> Issuer:
    """Parse the output of `programs/reaches.sh`; invalid lines are ignored."""
    ways, names = dict[str, Way](), dict[str, dns.Found]()
    for line in lines:
        match line.split():
            case ["to", address, ("open" | "refused" | "unroutable" | "silent") as state, *source]:
                ways[address] = Way(state, next(filter(_is_address, source), ""))
            case ["name", name, *found]:
                names[name] = dns.Found(tuple(filter(_is_address, found)))
    return Issuer(ways, names)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def of_ways(
    fleet: Fleet, replicas: Sequence[Machine], ways: Mapping[str, Way], own: Collection[str]
) -> list[Finding]:
    """Return what keeps the issuer's pushes from reaching replicas; ``own`` are its addresses."""
    issuer, found = fleet.issuer, list[Finding]()
    sources: dict[str, list[Machine]] = {}
    for each in replicas:
        way = ways.get(each.private_address)
        if way is None:
            continue
        if way.state in WAYS:
            place = f"{each.private_address}, port {each.ssh_port}"
            why = f"it does not reach {each.name} at {place}: {WAYS[way.state]}"
            hint = DIRECT.format(issuer.private_address, each.ssh_port, issuer.name)
            found.append(Finding(issuer.name, why, hint))
        elif way.source and not _same(way.source, issuer.private_address):
            sources.setdefault(way.source, []).append(each)
    has_address = any(_same(each, issuer.private_address) for each in own if _is_address(each))
    for source, machines in sources.items():
        names = ", ".join(each.name for each in machines)
        why = OTHER_SOURCE.format(names, source, issuer.private_address)
        hint = SET_ADDRESS.format(issuer.name, source, names, issuer.private_address)
        # Not its own address: a gateway may translate it, and the replica sees the right one.
        hint = hint if has_address else TRANSLATED.format(source)
        found.append(Finding(issuer.name, why, hint, stops=has_address))
    return found


def _same(one: str, other: str) -> bool:
    return ipaddress.ip_address(one) == ipaddress.ip_address(other)

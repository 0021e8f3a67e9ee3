"""The gate: which backends a balancer may send TLS to, and whether it passes TLS at all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from certsync.model.fleet import Fleet
from certsync.model.proof import Proof, Verdict

FIRST, WEB, OTHERS, UNVERIFIED = "tls", "http", "tls-of-", "tls-unverified"
"""The pools' names in haproxy.cfg. The third is the prefix for lineages after the first; the fourth
replaces `tls` in the pools that are used while every check fails."""

PROXY, CHECKED = "send-proxy-v2", "check-sni"


Members = Mapping[str, bool]
"""Whether each backend takes traffic; a member that was never proven is disabled."""


@dataclass(frozen=True)
class Gate:
    """What the balancer's configuration says, or should say."""

    rule: bool
    """Whether port 443 is passed through."""

    pools: Mapping[str, Members] = field(default_factory=dict)
    """The pool of each lineage; one of unknown name is under the empty name."""

    web: Members = field(default_factory=dict)
    """The same for port 80. A first deploy admits all backends: CA challenges arrive there."""

    ports: Mapping[str, int] = field(default_factory=dict)
    """The port on which each backend gets the client's address; 0: it does not get it."""

    def pools_of(self, fleet: Fleet) -> dict[str, Members]:
        """Return the pools under the fleet's current lineage names.

        A fleet's only lineage may be renamed: its backends still serve it.
        """
        if not fleet.has_several and len(self.pools) == 1:
            return dict.fromkeys([fleet.name], *self.pools.values())
        return {lineage or fleet.name: pool for lineage, pool in self.pools.items()}

    @property
    def taking(self) -> tuple[str, ...]:
        """The members that take traffic for at least one lineage."""
        pools = self.pools.values() if self.rule else ()
        return tuple(sorted({name for pool in pools for name, inside in pool.items() if inside}))

    def leaving(self, fleet: Fleet) -> dict[str, list[str]]:
        """Return the members that take a lineage's traffic but should no longer serve it."""
        serving = _members(fleet)
        found = {
            lineage: [
                name
                for name, inside in pool.items()
                if inside and name not in serving.get(lineage, ())
            ]
            for lineage, pool in self.pools_of(fleet).items()
        }
        return {lineage: names for lineage, names in found.items() if names}


@dataclass(frozen=True)
class Seen:
    """What the gate is decided from, besides the balancer's present configuration."""

    proofs: Mapping[str, Mapping[str, Proof]] = field(default_factory=dict)
    """Proofs by lineage and backend. A backend may be missing, or all of them if the issuer could
    not be asked."""

    listening: Collection[str] = ()
    """The backends whose PROXY protocol port answers the balancer."""


def decide(fleet: Fleet, before: Gate, seen: Seen) -> Gate:
    """Return what the gate should be; ``before`` is what the balancer has now.

    A failed probe never removes a member and never turns the rule off. A member that clients would
    reject is removed, unless that applies to all of them. With the PROXY protocol, a member moves
    to that port only once it answers there: otherwise an older configuration or a firewall would
    take this member out of service.
    """
    was = before.pools_of(fleet)
    pools = {
        lineage: _pool(members, was.get(lineage, {}), seen.proofs.get(lineage, {}))
        for lineage, members in _members(fleet).items()
    }
    proven = {
        name
        for proofs in seen.proofs.values()
        for name, proof in proofs.items()
        if proof.verdict is Verdict.IN_SYNC
    }
    names = [host.name for host in fleet.backends]
    port = proxy_port(fleet)
    members = [name for name in names if any(name in pool for pool in pools.values())]
    is_open = before.rule or any(any(pool.values()) for pool in pools.values())
    return Gate(
        fleet.passthrough and is_open,
        pools,
        {name: name in proven or not before.web or before.web.get(name, False) for name in names},
        {n: port if before.ports.get(n) == port or n in seen.listening else 0 for n in members},
    )


def abandoned(fleet: Fleet, before: Gate) -> list[str]:
    """Return the lineages that would lose all their present members at once.

    Their replacements are proven only at the end of a deploy.
    """
    if not (before.rule and fleet.passthrough):
        return []
    gone = before.leaving(fleet)
    pools = before.pools_of(fleet)
    return [
        each.name
        for each in fleet.lineages
        if each.name in gone
        and all(name in gone[each.name] for name, inside in pools[each.name].items() if inside)
    ]


def uncovered(fleet: Fleet, deployed: Fleet, before: Gate) -> dict[str, list[str]]:
    """Return the names, by lineage, that are served now and would lose their certificate.

    ``deployed`` is the deployed fleet. A lineage is identified by its first name: with another one
    it is a new lineage, without a certificate until the end of a deploy, or longer if the order
    fails. A name moved from another lineage is not in this lineage's certificate.
    """
    if not (before.rule and fleet.passthrough):
        return {}
    taking = {lineage for lineage, pool in before.pools_of(deployed).items() if any(pool.values())}
    served = {name for each in deployed.lineages if each.name in taking for name in each.names}
    known = {each.name: each.names for each in deployed.lineages if each.name in taking}
    found = {
        each.name: [
            name for name in each.names if name in served and name not in known.get(each.name, ())
        ]
        for each in fleet.lineages
    }
    return {lineage: names for lineage, names in found.items() if names}


def takes_away(fleet: Fleet, deployed: Fleet) -> bool:
    """Return whether backends are about to lose a port or a site that balancers send to.

    ``deployed`` is the deployed fleet.
    """
    will, staying = _members(fleet), {host.name for host in fleet.backends}
    lost = any(
        staying.intersection(members).difference(will.get(lineage, ()))
        for lineage, members in _members(deployed).items()
    )
    renumbered = proxy_port(deployed) not in (0, fleet.balancing.proxy_port)
    return lost or renumbered or bool(no_longer_trusted(fleet, deployed))


def no_longer_trusted(fleet: Fleet, deployed: Fleet) -> list[str]:
    """Return the balancers whose present address the backends are about to stop trusting.

    A balancer keeps connecting from its old address until the kernel changes it, and the PROXY
    protocol port would reject it meanwhile. ``deployed`` is the deployed fleet.
    """
    was = {host.name: host.private_address for host in deployed.balancers}
    return [
        host.name
        for host in fleet.balancers
        if proxy_port(deployed) and was.get(host.name, host.private_address) not in fleet.trusted
    ]


def proxy_port(fleet: Fleet) -> int:
    """Return the port for the PROXY protocol; 0: it is off, or the balancer cannot send it."""
    sent = fleet.balancing.proxy_protocol and fleet.balancer.provider.sends_proxy
    return fleet.balancing.proxy_port if sent else 0


def proxy_port_questions(fleet: Fleet) -> list[tuple[str, str, int, str, str]]:
    """Return the input of `proxy_port_check`: backend, address, port, a name it serves, a path."""
    balancing = fleet.balancing
    names = {host: each.name for each in reversed(fleet.lineages) for host in fleet.members(each)}
    return [
        (host.name, host.private_address, balancing.proxy_port, names[host], balancing.health_path)
        for host in fleet.backends
        if host in names
    ]


def _members(fleet: Fleet) -> dict[str, list[str]]:
    """Return the names of the backends that belong in each lineage's pool."""
    return {each.name: [host.name for host in fleet.members(each)] for each in fleet.lineages}


def _pool(backends: Sequence[str], before: Members, proofs: Mapping[str, Proof]) -> Members:
    inside = {name: _member(before.get(name, False), proofs.get(name)) for name in backends}
    if not any(inside.values()):
        # A certificate that clients may reject is better than no service. Keep all members, not
        # one: the certificate they share is at fault, and the balancer's check decides.
        inside.update({name: True for name in backends if before.get(name, False)})
    return inside


def _member(before: bool, proof: Proof | None) -> bool:
    if proof is None or proof.verdict is Verdict.UNREACHABLE:
        return before
    if proof.verdict is Verdict.BEHIND:
        return before
    return proof.verdict is Verdict.IN_SYNC


def read(configuration: str) -> Gate:
    """Parse a haproxy.cfg that we wrote; any other file gives an empty gate."""
    rule, section, first = False, "", ""
    pools: dict[str, dict[str, bool]] = {}
    ports: dict[str, int] = {}
    for line in configuration.splitlines():
        words = line.split()
        if line[:1] not in ("", " ", "#") and words:
            kind, name = words[0], " ".join(words[1:2])
            gated = kind == "backend" and (name in (FIRST, WEB) or name.startswith(OTHERS))
            section = name if gated else ""
            rule = rule or (kind, name) == ("frontend", "tls")
            if section:
                pools.setdefault(section, {})
        if section == FIRST and CHECKED in words[:-1]:
            first = words[words.index(CHECKED) + 1]
        if section and words[:1] == ["server"]:
            pools[section][words[1]] = "disabled" not in words[3:]
            if section != WEB:
                at = words[2].rpartition(":")[2]
                ports[words[1]] = int(at) if PROXY in words[3:] and at.isdigit() else 0
    web = pools.pop(WEB, {})
    by_lineage = {
        first if name == FIRST else name.removeprefix(OTHERS): pool for name, pool in pools.items()
    }
    return Gate(rule, by_lineage, web, ports)


def pool_name(fleet: Fleet, lineage: str) -> str:
    """Return the name of a lineage's pool in haproxy.cfg."""
    return FIRST if lineage == fleet.name else f"{OTHERS}{lineage}"

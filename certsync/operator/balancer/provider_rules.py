"""The settings for a provider's load balancer, and whether its TLS rule may be on. Pure.

What each product can do is taken from its documentation, see
docs/decisions/0016-somebody-elses-balancer.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.proof import Proof, Verdict

HTTP, TLS = 80, 443


@dataclass(frozen=True)
class Rule:
    """One forwarding rule, in the words of a provider's console."""

    listener: str
    """Protocol and port on which the balancer accepts connections."""

    backend: str
    """Protocol and port of the nodes."""

    proxy: str
    """The PROXY protocol setting, as the console calls it."""

    check: str
    """The rule's own health check; empty: see `Rules.check`."""


@dataclass(frozen=True)
class Rules:
    """The settings at one provider."""

    provider: str
    product: str
    rules: tuple[Rule, ...]
    """The rule for port 80, and that for port 443."""

    check: str
    """The health check of all rules; empty: each has its own."""

    algorithm: str
    stickiness: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """A backend as the balancer reaches it."""

    name: str
    address: str


@dataclass(frozen=True)
class Standing:
    """Whether the TLS rule may be on now, and for which backends."""

    ready: tuple[str, ...]
    """The backends that are proven."""

    waiting: Mapping[str, str]
    """The others, with the reason: they must stay out of the pool for now."""

    why_not: str = ""
    """Why the rule must stay off; empty: it may be on."""

    @property
    def may(self) -> bool:
        """Whether the rule may be on."""
        return not self.why_not

    def text(self) -> str:
        """Return it as text for people."""
        lines = [f"the rule for port 443 must stay off for now: {self.why_not}"]
        if self.may:
            lines = [f"the rule for port 443 may be on now, for {', '.join(self.ready)}"]
        lines += [f"keep out of its pool: {name}: {why}" for name, why in self.waiting.items()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return {"may_be_on": self.may, "why_not": self.why_not, "ready": list(self.ready),
                "waiting": dict(self.waiting)}  # fmt: skip


def nodes(fleet: Fleet) -> tuple[Node, ...]:
    """Return the pool's nodes once all are proven: the backends that serve every name.

    A provider's balancer does not read server names, so any node may get any name.
    """
    return tuple(Node(each.name, each.private_address) for each in fleet.serving_all)


def stand(
    fleet: Fleet, proofs: Mapping[str, Mapping[str, Proof]], differing: Sequence[str] = ()
) -> Standing:
    """Return whether the rule may be on.

    ``proofs`` are the issuer's, by lineage and backend. ``differing`` are the fleet file's edits
    that are not deployed: the rules may not fit the backends.
    """
    ready, waiting = [], {}
    for host in fleet.serving_all:
        why = "; ".join(_unproven(proofs, each, host) for each in fleet.lineages).strip("; ")
        if why:
            waiting[host.name] = why
        else:
            ready.append(host.name)
    why_not = ""
    if differing:
        why_not = f"the fleet file has edits that are not deployed: {', '.join(differing)}"
    elif not fleet.passthrough:
        why_not = "passthrough is off in the fleet file"
    elif not fleet.serving_all:
        why_not = "no backend serves all names, and this balancer cannot route by name"
    elif not ready:
        why_not = "no backend is proven"
    return Standing(tuple(ready), waiting, why_not)


def _unproven(proofs: Mapping[str, Mapping[str, Proof]], lineage: Lineage, host: Machine) -> str:
    proof = proofs.get(lineage.name, {}).get(host.name)
    if proof is None:
        return "not proven"
    return "" if proof.verdict is Verdict.IN_SYNC else proof.why or proof.verdict.value


def unasked(fleet: Fleet, why: str) -> Standing:
    """Return the standing when the issuer was not asked; ``why`` says why."""
    names = [each.name for each in fleet.serving_all]
    return Standing((), dict.fromkeys(names, "not proven"), why)


def rules(fleet: Fleet) -> tuple[Rules, ...]:
    """Return the settings for each known provider."""
    return (_digitalocean(fleet), _linode(fleet), _outscale(fleet))


def _tls_port(fleet: Fleet) -> int:
    return fleet.balancing.proxy_port if fleet.balancing.proxy_protocol else TLS


def _digitalocean(fleet: Fleet) -> Rules:
    remarks = []
    if fleet.balancing.proxy_protocol:
        remarks.append(
            "its PROXY protocol is one switch for all rules of a balancer, and port 80 of a "
            "backend does not accept it: over HTTPS the backends see the balancer's address, not "
            "the client's"
        )
    check = f"HTTPS, port {TLS}, path {fleet.balancing.health_path}"
    if fleet.has_several:
        # Its HTTPS check sends no server name, which backends with several certificates refuse.
        check = f"TCP, port {TLS}"
    return Rules(
        "DigitalOcean", "regional load balancer, HTTP",
        (
            Rule("HTTP 80", f"HTTP {HTTP}", "off", ""),
            Rule("HTTPS 443, certificate: Passthrough", f"HTTPS {TLS}", "off", ""),
        ),
        f"{check}, every 10 s, timeout 5 s, unhealthy after 3, healthy after 2",
        "Round Robin", "Sticky Sessions: off", tuple(remarks),
    )  # fmt: skip


def _linode(fleet: Fleet) -> Rules:
    check = "Active: TCP Connection, every 10 s, timeout 5 s, 3 attempts; Passive: off"
    proxy = "v2" if fleet.balancing.proxy_protocol else "None"
    return Rules(
        "Linode", "NodeBalancer, one configuration for each port",
        (
            Rule("HTTP 80", f"port {HTTP}", "none: HTTP has no such setting", check),
            Rule("TCP 443", f"port {_tls_port(fleet)}", f"Proxy Protocol: {proxy}", check),
        ),
        "", "Round Robin", "Session Stickiness: None",
    )  # fmt: skip


def _outscale(fleet: Fleet) -> Rules:
    port = _tls_port(fleet)
    proxy = "off: no policy"
    if fleet.balancing.proxy_protocol:
        proxy = (
            f"on: a policy of type ProxyProtocolPolicyType with ProxyProtocol true, set for "
            f"backend port {port} only"
        )
    return Rules(
        "Outscale", "Load Balancer Unit, Internet-facing",
        (
            Rule("HTTP 80", f"HTTP {HTTP}", "off: no policy for backend port 80", ""),
            Rule("TCP 443", f"TCP {port}", proxy, ""),
        ),
        f"TCP, port {TLS}, every 10 s, timeout 5 s, unhealthy after 3, healthy after 2",
        "round robin (the only one)", "no sticky cookie policy",
        ("the health check uses port 443, where no PROXY header is needed",)
        if fleet.balancing.proxy_protocol else (),
    )  # fmt: skip


def text(fleet: Fleet, standing: Standing) -> str:
    """Return the rules as text for people."""
    lines = ["nodes, by address:"]
    lines += [f"    {node.name}  {node.address}" for node in nodes(fleet)]
    for each in rules(fleet):
        lines += ["", f"{each.provider}: {each.product}"]
        for rule in each.rules:
            lines.append(f"    {rule.listener} -> {rule.backend}")
            lines.append(f"        PROXY protocol: {rule.proxy}")
            if rule.check:
                lines.append(f"        health check: {rule.check}")
        if each.check:
            lines.append(f"    health check: {each.check}")
        lines += [f"    algorithm: {each.algorithm}", f"    {each.stickiness}"]
        lines += [f"    {remark}" for remark in each.remarks]
    networks = ", ".join(fleet.balancer.networks)
    trusted = f"{networks} only" if networks else "nowhere"
    lines += [
        "",
        f"the client's address is accepted from {trusted}: balancer.networks in the fleet file",
        "the rule for port 80 must be on before the first deploy: the CA validates there",
        standing.text(),
    ]
    return "\n".join(lines)


def to_json(fleet: Fleet, standing: Standing) -> dict[str, Any]:
    """Return the rules as data for `json.dumps`."""
    return {
        "nodes": [asdict(node) for node in nodes(fleet)],
        "providers": [asdict(each) for each in rules(fleet)],
        "networks": list(fleet.balancer.networks),
        "rule": standing.to_json(),
    }

"""What a provider's balancer does with connections, whoever the provider is, from a double's state.

A double has what a provider keeps, in the provider's words. Here it is in words that say what a
client meets, so that a real balancer can be made to do the same: see `tests/e2e/cloud`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A machine that gets a listener's connections."""

    id: str
    """The provider's own identifier: what it says of its health is kept under that."""

    address: str
    port: int
    takes: bool = True
    """Whether it gets new connections; if not, it keeps its open ones."""


@dataclass(frozen=True)
class Check:
    """How targets are checked."""

    protocol: str
    """`tcp`, `http` or `https`; the certificate is not verified."""

    port: int = 0
    """0: the port that connections go to."""

    path: str = "/"
    seconds: int = 10
    """From one check to the next."""

    bad: int = 3
    """So many checks have to fail until a target is down."""

    good: int = 2
    down_at_first: bool = False
    """Whether a new target gets nothing until so many checks were good."""

    proxy: bool = False
    """Whether it begins with the PROXY protocol, if connections do."""


@dataclass(frozen=True)
class Listener:
    """One port."""

    port: int
    targets: tuple[Target, ...]
    http: bool = False
    """Whether it reads requests, and tells in X-Forwarded-For who asks; else it passes bytes."""

    proxy: str = ""
    """The PROXY protocol's version that is sent: `v1` or `v2`; empty: none."""

    check: Check | None = None
    sticky: bool = False
    """Whether a client stays with one target."""

    beside: bool = False
    """Whether its targets are checked alone: connections to the port go to another `Listener`'s."""


def of_digitalocean(state: Mapping[str, Any]) -> list[Listener]:
    """Return what a load balancer at DigitalOcean does. All its ports have the same droplets."""
    balancer = state["balancer"]
    proxy = "v1" if balancer["enable_proxy_protocol"] else ""
    told = balancer["health_check"]
    check = Check(
        told["protocol"],
        told["port"],
        told.get("path") or "/",
        told["check_interval_seconds"],
        told["unhealthy_threshold"],
        told["healthy_threshold"],
        down_at_first=True,  # not documented
        # "unset = as the load balancer" (godo, HealthCheck.ProxyProtocol).
        proxy=bool(told.get("proxy_protocol", proxy)),
    )
    return [
        Listener(
            rule["entry_port"],
            tuple(
                Target(str(each["id"]), _private(each), rule["target_port"])
                for each in _droplets(state)
            ),
            http=rule["entry_protocol"] == "http",
            proxy=proxy,
            check=check,
            sticky=balancer["sticky_sessions"]["type"] != "none",
        )
        for rule in balancer["forwarding_rules"]
        # One that opens TLS needs a certificate of the provider's; see `Listener`.
        if rule["entry_protocol"] in {"http", "tcp"} or rule.get("tls_passthrough")
    ]


def _droplets(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    balancer = state["balancer"]
    tag, ids = balancer["tag"], balancer["droplet_ids"]
    return [
        each for each in state["droplets"] if (tag in each["tags"] if tag else each["id"] in ids)
    ]


def _private(droplet: Mapping[str, Any]) -> str:
    [address] = [
        each["ip_address"] for each in droplet["networks"]["v4"] if each["type"] == "private"
    ]
    return str(address)


def of_linode(state: Mapping[str, Any]) -> list[Listener]:
    """Return what an account's NodeBalancer does. Each port has its own nodes."""
    return [
        Listener(
            config["port"],
            tuple(
                _node(each)
                for each in state["nodes"].values()
                if each["config_id"] == config["id"] and each["mode"] != "reject"
            ),
            http=config["protocol"] == "http",
            proxy="" if config["proxy_protocol"] == "none" else config["proxy_protocol"],
            check=_check(config),
            sticky=config["stickiness"] != "none" or config["algorithm"] == "source",
        )
        for config in state["configs"].values()
        if config["protocol"] in {"http", "tcp"}
    ]


def _node(node: Mapping[str, Any]) -> Target:
    address, _, port = node["address"].rpartition(":")
    return Target(str(node["id"]), address.strip("[]"), int(port), node["mode"] != "drain")


def _check(config: Mapping[str, Any]) -> Check | None:
    if config["check"] == "none":
        return None
    # "Performs a TCP handshake" (linode-api-docs, check: connection), on the node's own port.
    protocol = "tcp" if config["check"] == "connection" else "http"
    return Check(
        protocol,
        0,
        config["check_path"] or "/",
        config["check_interval"],
        config["check_attempts"],
        good=1,
    )


def of_hetzner(state: Mapping[str, Any]) -> list[Listener]:
    """Return what a project's load balancer does. All its services have the same targets.

    A new target gets connections before its checks pass (hcloud-cloud-controller-manager#109).
    """
    [balancer] = state["balancers"].values()
    return [
        Listener(
            service["listen_port"],
            tuple(
                Target(*_hetzners(each, balancer, state), service["destination_port"])
                for each in balancer["targets"]
            ),
            http=service["protocol"] == "http",
            proxy="v2" if service["proxyprotocol"] else "",
            check=_hetzner_check(service["health_check"]),
        )
        for service in balancer["services"]
        if service["protocol"] in {"http", "tcp"}
    ]


def _hetzners(
    target: Mapping[str, Any], balancer: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[str, str]:
    """Return a target's identifier and address."""
    if target["type"] == "ip":
        return target["ip"]["ip"], target["ip"]["ip"]
    server = state["servers"][str(target["server"]["id"])]
    if not target["use_private_ip"]:
        return str(server["id"]), server["public_net"]["ipv4"]["ip"]
    networks = {each["network"] for each in balancer["private_net"]}
    [address] = [each["ip"] for each in server["private_net"] if each["network"] in networks]
    return str(server["id"]), address


def _hetzner_check(told: Mapping[str, Any]) -> Check:
    http = told.get("http") or {}
    protocol = "tcp" if told["protocol"] == "tcp" else "https" if http.get("tls") else "http"
    # Whether it begins with the PROXY protocol is documented nowhere.
    return Check(
        protocol, told["port"], http.get("path") or "/", told["interval"], told["retries"], good=1
    )

"""Providers as they are on a lab: what a customer has made there before certsync comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lab import Lab
from tests.doubles import digitalocean, hetzner, linode
from tests.doubles.contract import Fault
from tests.doubles.listener import Listener, of_digitalocean, of_hetzner, of_linode
from tests.doubles.server import Front
from tests.e2e.provider_haproxy import Health

TLS = 443
TOKEN = "planted-5ecret-c0ffee-token"
NETWORK = "203.0.113.0/24"
BUSY_SECONDS = 2.0


@dataclass(frozen=True)
class Provider:
    """A provider's double on a lab, and what the tests have to know of it."""

    name: str
    double: Front
    balancer: str
    """The load balancer's identifier."""

    environment: Callable[[str], Mapping[str, str]]
    """Environment variables by which certsync reaches it, from what stands before each path."""

    listeners: Callable[[], Sequence[Listener]]
    """What its state says now."""

    hear: Callable[[Health], None]
    """Takes what HAProxy thinks of targets; see `Haproxy.health`."""

    shared_pool: bool
    """Whether port 80 has the same targets as port 443."""

    proxy: bool
    """Whether it sends the PROXY protocol on port 443 alone."""

    drains: bool
    """Whether a target can be drained."""

    without_ours: Callable[[Any], Any]
    """Returns a state without what is certsync's to change, and what the provider changes."""

    take_out: Callable[[str], None]
    """Takes the machine with an address out of port 443's pool, as another writer."""

    busy: Fault
    """How it says for some seconds that it takes no change."""

    changing: str = "POST *"
    """Which calls give a member traffic, as a fault says it."""

    internal: str = "the provider's words"
    """How it says that it has an internal error."""

    variable: str = ""
    """The environment variable that certsync names where a token is wrong; empty: the token's."""

    tokenless: str = "is not set"
    """What certsync says where a token is empty."""

    leaves_by_itself: bool = False
    """Whether a member that is drained leaves without another call."""

    gap_seconds: int = 0
    """For how long certsync says that port 443 is closed when the PROXY protocol changes."""

    close: Callable[[], None] = lambda: None
    """Ends what runs for it."""

    lag: float = 0
    """After how many seconds HAProxy does what a call has changed."""

    networks: str = NETWORK


def at_digitalocean(lab: Lab) -> Provider:
    """Return DigitalOcean with a droplet for each backend, and a balancer without droplets."""
    double = digitalocean.DigitalOcean(TOKEN, time.monotonic, BUSY_SECONDS)
    double.state["droplets"] = [
        # Its public address would be another one: only the private one is in the lab.
        digitalocean.droplet(100 + index, each.address)
        for index, each in enumerate(lab.backends, 1)
    ]
    # Otherwise as DigitalOcean makes it. What is asked by it has none of the fleet's names.
    double.state["balancer"]["health_check"] |= {
        "path": "/", "check_interval_seconds": 3, "healthy_threshold": 2,
    }  # fmt: skip
    ids = {each["networks"]["v4"][1]["ip_address"]: each["id"] for each in double.state["droplets"]}

    def take_out(address: str) -> None:
        double.state["balancer"]["droplet_ids"].remove(ids[address])

    return Provider(
        "digitalocean",
        double,
        digitalocean.BALANCER,
        lambda base: {"DIGITALOCEAN_TOKEN": TOKEN, "DIGITALOCEAN_API_URL": base},
        lambda: of_digitalocean(double.state),
        lambda _: None,  # its API does not tell
        shared_pool=True,
        proxy=False,
        drains=False,
        without_ours=_without_ours_at_digitalocean,
        take_out=take_out,
        busy=Fault("[PD][OE]*", status=403, words=digitalocean.BUSY, seconds=5),
        lag=BUSY_SECONDS,
    )


def _without_ours_at_digitalocean(state: Any) -> Any:
    found = deepcopy(state)
    balancer = found["balancer"]
    del balancer["droplet_ids"]
    for name in ("protocol", "port", "path"):
        del balancer["health_check"][name]
    rules = balancer["forwarding_rules"]
    balancer["forwarding_rules"] = [each for each in rules if each["entry_port"] != TLS]
    return found


def at_linode(lab: Lab) -> Provider:
    """Return Linode with a NodeBalancer whose port 80 has all backends as its nodes.

    Nodes have the lab's addresses instead of those of Linode's private network, 192.168.128.0/17.
    """
    double = linode.Linode(time.monotonic, TOKEN)
    balancer = double.balancer()
    web = double.config(balancer, port=80, protocol="http", check="connection")
    for each in lab.backends:
        double.node(web, f"{each.address}:80", label=each.name)

    def hear(health: Health) -> None:
        for key, node in double.state["nodes"].items():
            port = double.state["configs"][str(node["config_id"])]["port"]
            told = health.get((port, key))
            node["status"] = told if told in {"UP", "DOWN"} else "unknown"

    def take_out(address: str) -> None:
        double.state["nodes"] = {
            key: each
            for key, each in double.state["nodes"].items()
            if each["config_id"] == web or not each["address"].startswith(f"{address}:")
        }

    return Provider(
        "linode",
        double,
        str(balancer),
        lambda base: {"LINODE_TOKEN": TOKEN, "LINODE_URL": f"{base}/v4"},
        lambda: of_linode(double.state),
        hear,
        shared_pool=False,
        proxy=True,
        drains=True,
        without_ours=_without_ours_at_linode,
        take_out=take_out,
        # No word of a busy NodeBalancer is known, but of too many calls.
        busy=Fault("P*", status=429, words="Too many requests", headers={"Retry-After": "3"}),
    )


def _without_ours_at_linode(state: Any) -> Any:
    found = deepcopy(state)
    ours = {key for key, each in found["configs"].items() if each["port"] == TLS}
    nodes = found["nodes"].items()
    kept = {key: each for key, each in nodes if str(each["config_id"]) not in ours}
    for each in kept.values():
        del each["status"]
    configs = {key: each for key, each in found["configs"].items() if key not in ours}
    return {"balancers": found["balancers"], "configs": configs, "nodes": kept}


def at_hetzner(lab: Lab) -> Provider:
    """Return a project at Hetzner with a server for each backend, and a balancer."""
    double = hetzner.Hetzner(time.monotonic, TOKEN)
    double.seconds = 1.0
    balancer = double.balancer()
    double.service(balancer, 80, protocol="http", http=dict(hetzner.HTTP))
    servers = {each.address: double.server(private=each.address) for each in lab.backends}

    def of_it() -> Any:
        return double.state["balancers"][str(balancer)]

    def hear(health: Health) -> None:
        words = {"UP": "healthy", "DOWN": "unhealthy"}
        for target in of_it()["targets"]:
            for each in target["health_status"]:
                told = health.get((each["listen_port"], str(target["server"]["id"])), "")
                each["status"] = words.get(told, "unknown")

    def take_out(address: str) -> None:
        gone = servers[address]
        kept = [each for each in of_it()["targets"] if each["server"]["id"] != gone]
        of_it()["targets"] = kept

    return Provider(
        "hetzner",
        double,
        str(balancer),
        lambda base: {"HCLOUD_TOKEN": TOKEN, "HCLOUD_ENDPOINT": base},
        lambda: of_hetzner(double.state),
        hear,
        shared_pool=True,
        proxy=True,
        drains=False,
        without_ours=_without_ours_at_hetzner,
        take_out=take_out,
        busy=Fault("POST *", status=423, words="locked: another action is running", seconds=5),
    )


def _without_ours_at_hetzner(state: Any) -> Any:
    found = deepcopy(state)
    del found["actions"]
    for balancer in found["balancers"].values():
        del balancer["targets"]
        balancer["services"] = [e for e in balancer["services"] if e["listen_port"] != TLS]
    return found

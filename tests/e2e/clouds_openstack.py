"""OpenStack as it is on a lab: Octavia's own API with a layer before it; see `clouds`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab import Lab
from tests.doubles.contract import Fault
from tests.doubles.listener_octavia import of_octavia
from tests.doubles.octavia import IMMUTABLE, Octavia
from tests.e2e.clouds import TLS, TOKEN, Provider
from tests.e2e.provider_haproxy import Health
from tests.octavia.running import SUBNET, running

VOLATILE = ("updated_at", "provisioning_status", "operating_status")


def at_openstack(lab: Lab) -> Provider:
    """Return a cloud with a load balancer whose port 80 has all backends as its members."""
    stack = ExitStack()
    folder = Path(stack.enter_context(TemporaryDirectory()))
    layer = Octavia(stack.enter_context(running(folder)), TOKEN, time.monotonic)
    balancer = _openstack_with_a_website(layer, lab)

    def hear(health: Health) -> None:
        words = {"UP": "ONLINE", "DOWN": "ERROR"}
        layer.health = {
            member: words[status] for (_, member), status in health.items() if status in words
        }

    def take_out(address: str) -> None:
        [pool] = [e["default_pool_id"] for e in layer.state["listeners"] if _is_ours(e)]
        members = next(e["members"] for e in layer.state["pools"] if e["id"] == pool)
        [gone] = [each["id"] for each in members if each["address"] == address]
        layer.ask("DELETE", f"/pools/{pool}/members/{gone}")

    return Provider(
        "openstack",
        layer,
        balancer,
        lambda base: {"OS_AUTH_TYPE": "admin_token", "OS_ENDPOINT": base, "OS_TOKEN": TOKEN},
        lambda: of_octavia(layer.state),
        hear,
        shared_pool=False,
        proxy=True,
        drains=True,
        without_ours=_without_ours_at_openstack,
        take_out=take_out,
        busy=Fault("POST *", status=409, words=IMMUTABLE, seconds=5),
        variable="OS_CLOUD",
        tokenless="credentials are missing",
        close=stack.close,
    )


def _openstack_with_a_website(layer: Octavia, lab: Lab) -> str:
    """Return the id of a new load balancer."""
    asked = {"name": "web", "vip_subnet_id": SUBNET, "vip_address": lab.balancer.address}
    asked["project_id"] = "1" * 32
    made = layer.ask("POST", "/loadbalancers", {"loadbalancer": asked})["loadbalancer"]["id"]
    pool = {"name": "website", "loadbalancer_id": made, "protocol": "HTTP"}
    pool["lb_algorithm"] = "ROUND_ROBIN"
    website = layer.ask("POST", "/pools", {"pool": pool})["pool"]["id"]
    for each in lab.backends:
        member = {"name": each.name, "address": each.address, "protocol_port": 80}
        layer.ask("POST", f"/pools/{website}/members", {"member": member})
    check = {"pool_id": website, "type": "TCP", "delay": 2, "timeout": 1, "max_retries": 1}
    layer.ask("POST", "/healthmonitors", {"healthmonitor": check})
    listener = {"name": "website", "loadbalancer_id": made, "protocol": "HTTP"}
    listener |= {"protocol_port": 80, "default_pool_id": website}
    layer.ask("POST", "/listeners", {"listener": listener})
    return str(made)


def _is_ours(listener: Any) -> bool:
    return bool(listener["protocol_port"] == TLS)


def _without_ours_at_openstack(state: Any) -> Any:
    found = deepcopy(state)
    found["listeners"] = [each for each in found["listeners"] if not _is_ours(each)]
    found["pools"] = [each for each in found["pools"] if "certsync" not in each["tags"]]
    kept = {each["id"] for each in found["pools"]}
    found["healthmonitors"] = [
        each for each in found["healthmonitors"] if {pool["id"] for pool in each["pools"]} & kept
    ]
    for balancer in found["loadbalancers"]:
        del balancer["listeners"], balancer["pools"]
    members = [each for pool in found["pools"] for each in pool["members"]]
    for each in [*members, *(row for kind in found.values() for row in kind)]:
        for name in VOLATILE:
            each.pop(name, None)
    return found

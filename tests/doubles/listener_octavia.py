"""What an Octavia load balancer does with connections; see `listener`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.doubles.listener import Check, Listener, Target

PROXY = {"PROXY": "v1", "PROXYV2": "v2"}


def of_octavia(state: Mapping[str, Any]) -> list[Listener]:
    """Return what the load balancer of a cloud does. Each listener has one pool."""
    pools = {each["id"]: each for each in state["pools"]}
    checks = {each["id"]: each for each in state["healthmonitors"]}
    return [
        _of_pool(each, pools[each["default_pool_id"]], checks)
        for each in state["listeners"]
        if each["default_pool_id"] and each["protocol"] in {"HTTP", "TCP"}
    ]


def _of_pool(
    listener: Mapping[str, Any], pool: Mapping[str, Any], checks: Mapping[str, Any]
) -> Listener:
    monitor = checks.get(pool.get("healthmonitor_id", ""))
    return Listener(
        listener["protocol_port"],
        tuple(
            Target(each["id"], each["address"], each["protocol_port"], each["weight"] > 0)
            for each in pool["members"]
        ),
        http=listener["protocol"] == "HTTP",
        proxy=PROXY.get(pool["protocol"], ""),
        check=_check(monitor) if monitor else None,
        sticky=bool(pool["session_persistence"]) or pool["lb_algorithm"] == "SOURCE_IP",
    )


def _check(monitor: Mapping[str, Any]) -> Check:
    # Its own balancer is an HAProxy: a new member is up until its checks fail, and `send-proxy`
    # holds for checks of the same port too (octavia/common/jinja/haproxy/combined_listeners).
    return Check(
        monitor["type"].lower(),
        0,
        monitor["url_path"] or "/",
        monitor["delay"],
        monitor["max_retries_down"],
        monitor["max_retries"],
        proxy=True,
    )

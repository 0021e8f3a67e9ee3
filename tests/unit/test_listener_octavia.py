"""What the state of an Octavia load balancer means for clients."""

from __future__ import annotations

from typing import Any

from tests.doubles.listener import Check, Listener, Target
from tests.doubles.listener_octavia import of_octavia


def pool(name: str, protocol: str, port: int, *weights: int, **more: Any) -> dict[str, Any]:
    members = [
        {"id": f"{name}-{at}", "address": f"10.0.0.{at}", "protocol_port": port, "weight": weight}
        for at, weight in enumerate(weights, 1)
    ]
    usual = {"session_persistence": None, "lb_algorithm": "ROUND_ROBIN"}
    return {"id": name, "protocol": protocol, "members": members, **usual, **more}


def test_each_listener_has_its_pool_and_weight_0_takes_nothing_new() -> None:
    monitor = {
        "id": "check", "type": "TCP", "url_path": None, "delay": 5, "max_retries": 2,
        "max_retries_down": 3,
    }  # fmt: skip
    state = {
        "listeners": [
            {"protocol": "HTTP", "protocol_port": 80, "default_pool_id": "web"},
            {"protocol": "TCP", "protocol_port": 443, "default_pool_id": "tls"},
            {"protocol": "TCP", "protocol_port": 8080, "default_pool_id": None},
        ],
        "pools": [
            pool("web", "HTTP", 80, 1),
            pool("tls", "PROXYV2", 8443, 1, 0, healthmonitor_id="check"),
            pool("spare", "TCP", 443, 1),
        ],
        "healthmonitors": [monitor],
    }
    assert of_octavia(state) == [
        Listener(80, (Target("web-1", "10.0.0.1", 80),), http=True),
        Listener(
            443,
            (
                Target("tls-1", "10.0.0.1", 8443),
                Target("tls-2", "10.0.0.2", 8443, takes=False),
            ),
            proxy="v2",
            check=Check("tcp", seconds=5, bad=3, good=2, proxy=True),
        ),
    ]

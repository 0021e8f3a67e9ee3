"""What the states of AWS and Outscale mean for clients."""

from __future__ import annotations

from typing import Any

from tests.doubles.listener import Check, Listener, Target
from tests.doubles.listener_aws import of_aws, of_outscale


def group(arn: str, port: int, *addresses: str, **attributes: str) -> dict[str, Any]:
    return {
        "TargetGroupArn": arn, "HealthCheckProtocol": "TCP", "HealthCheckPort": "traffic-port",
        "HealthCheckIntervalSeconds": 10, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 3,
        "Attributes": attributes, "Targets": [{"Id": each, "Port": port} for each in addresses],
    }  # fmt: skip


def listening(*shares: tuple[str, int]) -> dict[str, Any]:
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in shares]
    action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
    return {"Port": 443, "Protocol": "TCP", "DefaultActions": [action]}


PLAIN = group("plain", 443, "10.0.0.1")
PROXY = group("proxy", 8443, "10.0.0.1", **{"proxy_protocol_v2.enabled": "true"})
CHECK = Check("tcp", seconds=2, bad=3, good=2, down_at_first=True, proxy=True)


def test_a_target_group_without_weight_is_checked_and_gets_nothing() -> None:
    state = {
        "listeners": {"443": listening(("plain", 1), ("proxy", 0))},
        "groups": {"plain": PLAIN, "proxy": PROXY},
        "draining": [],
    }
    assert of_aws(state, sooner=5) == [
        Listener(443, (Target("10.0.0.1:443", "10.0.0.1", 443),), check=CHECK),
        Listener(
            443,
            (Target("10.0.0.1:8443", "10.0.0.1", 8443),),
            proxy="v2",
            check=CHECK,
            beside=True,
        ),
    ]


def test_a_deregistered_target_gets_nothing_new() -> None:
    state = {
        "listeners": {"443": listening(("plain", 1))},
        "groups": {"plain": PLAIN},
        "draining": [["plain", "10.0.0.2", 443], ["proxy", "10.0.0.2", 8443]],
    }
    [made] = of_aws(state)
    assert [(each.address, each.takes) for each in made.targets] == [
        ("10.0.0.1", True),
        ("10.0.0.2", False),
    ]


def test_outscales_listeners_have_the_same_instances_and_a_policy_goes_by_their_port() -> None:
    ports = {"TCP": (443, 8443), "HTTP": (80, 80)}
    state = {
        "balancers": {
            "fleet": {
                "ListenerDescriptions": [
                    {"Listener": {"Protocol": name, "LoadBalancerPort": on, "InstancePort": to}}
                    for name, (on, to) in ports.items()
                ],
                "Instances": [{"InstanceId": "i-1"}],
                "HealthCheck": {
                    "Target": "HTTPS:443/up", "Interval": 5, "UnhealthyThreshold": 3,
                    "HealthyThreshold": 2,
                },
            }
        },
        "addresses": {"i-1": "10.0.0.1", "i-2": "10.0.0.2"},
        "ports": {"fleet:8443": ["certsync-proxy"], "fleet:80": []},
    }  # fmt: skip
    check = Check("https", 443, "/up", 5, 3, 2, down_at_first=True)
    assert of_outscale(state) == [
        Listener(443, (Target("i-1", "10.0.0.1", 8443),), proxy="v1", check=check),
        Listener(80, (Target("i-1", "10.0.0.1", 80),), http=True, check=check),
    ]

"""What load balancers do with connections at AWS and Outscale; see `listener`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.doubles.listener import Check, Listener, Target


def of_aws(state: Mapping[str, Any], sooner: int = 1) -> list[Listener]:
    """Return what the Network Load Balancer of an account does. Each target group has its own port.

    ``sooner``: how many times as often targets are checked, in a world where time is dear.
    """
    return [
        made
        for listener in state["listeners"].values()
        if listener["Protocol"] == "TCP"
        for made in _of_groups(listener, state, sooner)
    ]


def _of_groups(
    listener: Mapping[str, Any], state: Mapping[str, Any], sooner: int
) -> Iterator[Listener]:
    [action] = listener["DefaultActions"]
    shares = action.get("ForwardConfig", {}).get("TargetGroups") or [action]
    weights = {each["TargetGroupArn"]: each.get("Weight", 1) for each in shares}
    assert sum(weight > 0 for weight in weights.values()) == 1, "no lab needs shares"
    for arn, weight in weights.items():
        group = state["groups"][arn]
        attributes = group["Attributes"]
        yield Listener(
            listener["Port"],
            tuple(_targets(group, state["draining"])),
            proxy="v2" if attributes.get("proxy_protocol_v2.enabled") == "true" else "",
            check=_check(group, sooner),
            sticky=attributes.get("stickiness.enabled") == "true",
            beside=weight == 0,
        )


def _targets(group: Mapping[str, Any], draining: list[list[Any]]) -> Iterator[Target]:
    places = [(each["Id"], each["Port"]) for each in group["Targets"]]
    gone = [(each[1], each[2]) for each in draining if each[0] == group["TargetGroupArn"]]
    for address, port in places:
        yield Target(f"{address}:{port}", address, port)
    # "Stops routing new connections"; open ones stay until the delay has ended (the guide,
    # "Deregistration delay").
    for address, port in gone:
        yield Target(f"{address}:{port}", address, port, takes=False)


def _check(group: Mapping[str, Any], sooner: int) -> Check:
    port = group["HealthCheckPort"]
    return Check(
        group["HealthCheckProtocol"].lower(),
        0 if port == "traffic-port" else int(port),
        group.get("HealthCheckPath") or "/",
        max(1, int(group["HealthCheckIntervalSeconds"]) // sooner),
        int(group["UnhealthyThresholdCount"]),
        int(group["HealthyThresholdCount"]),
        # `initial`: no connections yet. That all targets get some if none is healthy is left out.
        down_at_first=True,
        # Checks carry the header too (the guide, "Proxy protocol").
        proxy=True,
    )


def of_outscale(state: Mapping[str, Any]) -> list[Listener]:
    """Return what an account's load balancer does. All its listeners have the same instances."""
    [(name, balancer)] = state["balancers"].items()
    listeners = [each["Listener"] for each in balancer["ListenerDescriptions"]]
    numbers = [each["InstanceId"] for each in balancer["Instances"]]
    return [
        Listener(
            each["LoadBalancerPort"],
            tuple(
                Target(number, state["addresses"][number], each["InstancePort"])
                for number in numbers
            ),
            http=each["Protocol"] == "HTTP",
            # All policies that a lab has are for the PROXY protocol.
            proxy="v1" if state["ports"].get(f"{name}:{each['InstancePort']}") else "",
            check=_outscale_check(balancer["HealthCheck"]),
        )
        for each in listeners
        if each["Protocol"] in {"HTTP", "TCP"}
    ]


def _outscale_check(told: Mapping[str, Any]) -> Check:
    found = re.fullmatch(r"(HTTPS?|TCP):(\d+)(/.*)?", told["Target"])
    assert found, told
    # Whether it begins with the PROXY protocol is documented nowhere. "OutOfService" until as many
    # checks were good (AWS' guide to Classic Load Balancers, "Configure health checks").
    return Check(
        found[1].lower(),
        int(found[2]),
        found[3] or "/",
        told["Interval"],
        told["UnhealthyThreshold"],
        told["HealthyThreshold"],
        down_at_first=True,
    )

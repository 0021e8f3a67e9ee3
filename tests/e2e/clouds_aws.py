"""AWS as it is on a lab: moto with a layer before it; see `clouds`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

from lab import Lab
from tests.doubles.aws import Aws
from tests.doubles.contract import Fault
from tests.doubles.layer import KEY, moto, reset
from tests.doubles.listener_aws import of_aws
from tests.e2e.clouds import NETWORK, TLS, TOKEN, Provider
from tests.e2e.provider_haproxy import Health

KEYS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": TOKEN,
    # A lab has no metadata to ask for.
    "AWS_EC2_METADATA_DISABLED": "true",
}
SOONER = 5
"""How many times as often targets are checked as the settings say: every two seconds."""


def at_aws(lab: Lab) -> Provider:
    """Return AWS with a Network Load Balancer whose port 80 has all backends as its targets."""
    stack = ExitStack()
    address = stack.enter_context(moto())
    reset(address)
    layer = Aws(address, time.monotonic)
    layer.secret, layer.checked = TOKEN, {}
    elb, arn = layer.client("elbv2"), _aws_with_a_website(layer, lab)

    def hear(health: Health) -> None:
        layer.checked = _checked(layer.checked or {}, health)

    def take_out(address: str) -> None:
        listener = layer.state["listeners"][str(TLS)]
        group = listener["DefaultActions"][0]["TargetGroupArn"]
        targets = [e for e in layer.state["groups"][group]["Targets"] if e["Id"] == address]
        elb.deregister_targets(TargetGroupArn=group, Targets=targets)
        layer.changed()

    return Provider(
        "aws",
        layer,
        arn,
        lambda base: {**KEYS, "AWS_ENDPOINT_URL": base},
        lambda: of_aws(layer.state, SOONER),
        hear,
        shared_pool=False,
        proxy=True,
        drains=True,
        without_ours=_without_ours_at_aws,
        take_out=take_out,
        busy=Fault("RegisterTargets", status=400, words="Throttling", seconds=5),
        changing="RegisterTargets",
        internal="InternalFailure",
        tokenless="does not accept the keys",
        leaves_by_itself=True,
        close=stack.close,
    )


def _aws_with_a_website(layer: Aws, lab: Lab) -> str:
    """Return the ARN of a new load balancer."""
    ec2, elb = layer.client("ec2"), layer.client("elbv2")
    vpc = ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=NETWORK)["Subnet"]["SubnetId"]
    [made] = elb.create_load_balancer(Name="fleet", Type="network", Subnets=[subnet])[
        "LoadBalancers"
    ]
    [group] = elb.create_target_group(
        Name="website",
        Protocol="TCP",
        Port=80,
        VpcId=vpc,
        TargetType="ip",
        HealthCheckIntervalSeconds=10,
        HealthyThresholdCount=2,
    )["TargetGroups"]
    elb.register_targets(
        TargetGroupArn=group["TargetGroupArn"],
        Targets=[{"Id": each.address, "Port": 80} for each in lab.backends],
    )
    elb.create_listener(
        LoadBalancerArn=made["LoadBalancerArn"],
        Protocol="TCP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}],
    )
    layer.look()
    return str(made["LoadBalancerArn"])


def _checked(before: Mapping[str, str], health: Health) -> dict[str, str]:
    """Return what AWS says of targets. One that was never healthy stays `initial`.

    How long it takes to be `unhealthy` instead is left out.
    """
    return {
        target: "healthy" if status == "UP" else "unhealthy"
        for (_, target), status in health.items()
        if status == "UP" or target in before
    }


def _without_ours_at_aws(state: Any) -> Any:
    found = deepcopy(state)
    del found["draining"]
    found["listeners"].pop(str(TLS), None)
    groups = found["groups"].items()
    found["groups"] = {
        arn: group for arn, group in groups if not group["TargetGroupName"].startswith("certsync-")
    }
    return found

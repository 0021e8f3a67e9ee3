"""Outscale as it is on a lab: moto with a layer before it; see `clouds`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

from certsync.operator.balancer.managed.outscale import GAP_SECONDS
from lab import Lab
from tests.doubles.contract import Fault
from tests.doubles.layer import KEY, REGION, moto, reset
from tests.doubles.listener_aws import of_outscale
from tests.doubles.outscale import Outscale
from tests.e2e.clouds import NETWORK, TLS, TOKEN, Provider
from tests.e2e.provider_haproxy import Health

NAME = "fleet"
KEYS = {
    "OSC_REGION": REGION,
    "OSC_ACCESS_KEY": KEY,
    "OSC_SECRET_KEY": TOKEN,
    # A lab has no metadata to ask for.
    "AWS_EC2_METADATA_DISABLED": "true",
}


def at_outscale(lab: Lab) -> Provider:
    """Return Outscale with a VM for each backend, and a load balancer without VMs."""
    stack = ExitStack()
    address = stack.enter_context(moto())
    reset(address)
    layer = Outscale(address, time.monotonic)
    layer.secret = TOKEN
    elb, numbers = layer.client("elb"), _outscale_with_a_website(layer, lab)

    def hear(health: Health) -> None:
        up = {number for (_, number), status in health.items() if status == "UP"}
        layer.out = {*numbers.values()} - up

    def take_out(address: str) -> None:
        gone = [{"InstanceId": numbers[address]}]
        elb.deregister_instances_from_load_balancer(LoadBalancerName=NAME, Instances=gone)
        layer.changed()

    return Provider(
        "outscale",
        layer,
        NAME,
        lambda base: {**KEYS, "OSC_ENDPOINT_LBU": base, "OSC_ENDPOINT_FCU": base},
        lambda: of_outscale(layer.state),
        hear,
        shared_pool=True,
        proxy=True,
        drains=False,
        without_ours=_without_ours_at_outscale,
        take_out=take_out,
        busy=Fault("Register*", status=503, words="RequestLimitExceeded", seconds=5),
        changing="Register*",
        internal="InternalError",
        tokenless="does not accept the keys",
        gap_seconds=GAP_SECONDS,
        close=stack.close,
    )


def _outscale_with_a_website(layer: Outscale, lab: Lab) -> dict[str, str]:
    """Make a load balancer, and return the VM's id of each backend's address."""
    ec2, elb = layer.client("ec2"), layer.client("elb")
    vpc = ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=NETWORK)["Subnet"]["SubnetId"]
    numbers = {}
    for each in lab.backends:
        [made] = ec2.run_instances(
            ImageId="ami-12c6146b",
            MinCount=1,
            MaxCount=1,
            SubnetId=subnet,
            PrivateIpAddress=each.address,
        )["Instances"]
        numbers[each.address] = str(made["InstanceId"])
    website = {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}
    elb.create_load_balancer(LoadBalancerName=NAME, Subnets=[subnet], Listeners=[website])
    # By a usual check: what is asked has none of the fleet's names.
    check = {"Target": "HTTP:80/", "Interval": 5, "Timeout": 2}
    check |= {"UnhealthyThreshold": 2, "HealthyThreshold": 2}
    elb.configure_health_check(LoadBalancerName=NAME, HealthCheck=check)
    return numbers


def _without_ours_at_outscale(state: Any) -> Any:
    found = deepcopy(state)
    del found["ports"]
    balancer = found["balancers"][NAME]
    del balancer["Instances"], balancer["Policies"], balancer["HealthCheck"]["Target"]
    there = balancer["ListenerDescriptions"]
    balancer["ListenerDescriptions"] = [
        each for each in there if each["Listener"]["LoadBalancerPort"] != TLS
    ]
    return found

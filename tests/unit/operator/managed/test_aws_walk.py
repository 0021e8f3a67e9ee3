"""On the way from any rule to any other, through any fault, a Network Load Balancer serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from certsync.operator.balancer.managed.aws import NetworkBalancer, connect
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import Clock, drive
from certsync.operator.balancer.managed.errors import BusyError
from certsync.operator.balancer.managed.port import Rule
from tests.doubles.aws import Aws
from tests.doubles.contract import Fault
from tests.doubles.layer import KEY, SECRET, Told, client, moto, reset
from tests.doubles.server import serve

FLEET = {f"web-{each}": f"10.0.0.1{each}" for each in range(1, 5)}
RULES = [Rule(443), Rule(8443, "v2")]
CALLS = ["Describe*", "RegisterTargets", "DeregisterTargets", "*Listener", "CreateTargetGroup",
         "ModifyTargetGroup*"]  # fmt: skip
ROUNDS = 4


@dataclass(frozen=True)
class Served:
    """What port 443 has at one moment."""

    proxy: bool
    states: Mapping[str, str]
    """Address with port to state."""

    @property
    def addresses(self) -> set[str]:
        return {each.rpartition(":")[0] for each in self.states}


@dataclass
class Watched:
    """A layer that keeps what port 443 has after each changing call."""

    api: Aws
    arn: str
    moments: list[Served | None] = field(default_factory=list)

    def watch(self) -> None:
        take = self.api.take

        def watched(
            method: str, target: str, headers: Mapping[str, str], content: bytes
        ) -> Told | None:
            told = take(method, target, headers, content)
            if b"Action=Describe" not in content:
                self.moments.append(self.now())
            return told

        self.api.take = watched  # type: ignore[method-assign]  # to look after each call

    def now(self) -> Served | None:
        elb = self.api.client("elbv2")
        listeners = elb.describe_listeners(LoadBalancerArn=self.arn)["Listeners"]
        for listener in listeners:
            action = listener["DefaultActions"][0]
            shares = action.get("ForwardConfig", {}).get("TargetGroups", [action])
            [arn] = [each["TargetGroupArn"] for each in shares if each.get("Weight", 1)]
            told = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            health = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
            places = [(each["Target"]["Id"], each["Target"]["Port"]) for each in health]
            return Served(
                {"Key": "proxy_protocol_v2.enabled", "Value": "true"} in told,
                {f"{a}:{port}": self.api._state((arn, a, port)) for a, port in places},
            )
        return None


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    with moto() as address:
        yield address


def balancer(address: str) -> str:
    reset(address)
    ec2, elb = client(address, "ec2"), client(address, "elbv2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    made = elb.create_load_balancer(Name="fleet", Type="network", Subnets=[subnet])
    return str(made["LoadBalancers"][0]["LoadBalancerArn"])


def some(random: Random, least: int = 1) -> dict[str, str]:
    names = random.sample(list(FLEET), random.randint(least, len(FLEET)))
    return {each: FLEET[each] for each in names}


def faults(random: Random) -> Iterator[Fault]:
    for _ in range(random.randint(0, 3)):
        on = random.choice(CALLS)
        # A first look that fails ends it.
        passing = random.randint(10, 30) if on == "Describe*" else random.randint(0, 2)
        kind: dict[str, Any] = random.choice(
            [{"status": 500}, {"status": 503, "carried_out": True}, {"cut": True},
             {"status": 400, "words": "Throttling"}]
        )  # fmt: skip
        yield Fault(on, passing=passing, **kind)


@pytest.mark.parametrize("seed", range(3))
def test_it_serves_all_the_way(running: str, seed: int) -> None:
    random, time = Random(seed), [0.0]

    def sleep(seconds: float) -> None:
        time[0] += seconds

    api = Aws(running, lambda: time[0])
    arn = balancer(running)
    watched = Watched(api, arn)
    watched.watch()
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with serve(api) as base:
        provider: NetworkBalancer = connect(arn, {**keys, "AWS_ENDPOINT_URL": base})
        clock = Clock(lambda: time[0], sleep)
        for _ in range(ROUNDS):
            wanted = Wanted(random.choice([*RULES, *RULES, None]), some(random), FLEET)
            api.seconds = random.choice([0, 20, 60])
            before, watched.moments = watched.now(), []
            with suppress(BusyError):
                drive(provider, wanted, lambda _: None, clock, 50)
            sleep(100)
            api.faults = list(faults(random))
            wanted = Wanted(random.choice(RULES), some(random), FLEET)
            before, watched.moments = watched.now(), []
            drive(provider, wanted, lambda _: None, clock, 900)
            right(before, [*watched.moments, watched.now()], wanted)
            sleep(100)


def right(before: Served | None, moments: list[Served | None], wanted: Wanted) -> None:
    """Check each moment, and the end."""
    old = before.addresses if before else set()
    for each in moments:
        if each is None:
            assert before is None, "port 443 was closed for a while"
            continue
        ports = {address.rpartition(":")[2] for address in each.states}
        assert ports <= {"8443" if each.proxy else "443"}, "backends refuse that"
        assert each.addresses <= old | set(wanted.members.values()), "it was not proven"
        if before and "healthy" in before.states.values():
            assert "healthy" in each.states.values(), "nobody answers any more"
    end = moments[-1]
    assert end is not None
    assert end.addresses == set(wanted.members.values())
    assert wanted.rule
    assert end.proxy is bool(wanted.rule.proxy)

"""A Network Load Balancer is driven, against moto with a strict layer before it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from certsync.model.options import Balancer, Provider
from certsync.operator.balancer.managed import providers
from certsync.operator.balancer.managed.aws import NetworkBalancer, connect
from certsync.operator.balancer.managed.aws_form import HINTS
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import NO_LEAVE, Clock, Leave, drive
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    ManagedError,
    NoCredentialsError,
    NoSuchError,
    RefusedChangeError,
    RightError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.port import MIXED_PORTS, NO_PORT, Check, Rule, State
from tests.doubles.aws import Aws
from tests.doubles.contract import Fault, differences
from tests.doubles.layer import KEY, SECRET, client, moto, reset
from tests.doubles.server import serve

FLEET = {"web-1": "10.0.0.11", "web-2": "10.0.0.12", "web-3": "10.0.0.13"}
PLAIN, PROXY = Rule(443), Rule(8443, "v2")


@dataclass(frozen=True)
class Ground:
    """A VPC, the same for all tests."""

    moto: str
    vpc: str
    subnets: list[str]


@dataclass
class World:
    """A load balancer with a website on port 80, beside one of somebody else."""

    ground: Ground
    now: float = 0
    told: list[str] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        self.api = Aws(self.ground.moto, lambda: self.now)
        self.elb, self.vpc = self.api.client("elbv2"), self.ground.vpc
        for balancer in self.elb.describe_load_balancers()["LoadBalancers"]:
            self.elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
        for group in self.elb.describe_target_groups()["TargetGroups"]:
            self.elb.delete_target_group(TargetGroupArn=group["TargetGroupArn"])
        self.arn = self.balancer("fleet")
        self.listener(self.arn, 80, self.group("web", Port=80))
        self.listener(self.balancer("other"), 443, self.group("other"))
        self.theirs = self.state()

    def balancer(self, name: str, kind: str = "network") -> str:
        subnets = self.ground.subnets[:1] if kind == "network" else self.ground.subnets
        made = self.elb.create_load_balancer(Name=name, Type=kind, Subnets=subnets)
        return str(made["LoadBalancers"][0]["LoadBalancerArn"])

    def group(self, name: str, **settings: Any) -> str:
        usual = {"Protocol": "TCP", "Port": 443, "VpcId": self.vpc, "TargetType": "ip"}
        made = self.elb.create_target_group(Name=name, **{**usual, **settings})
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def listener(self, balancer: str, port: int, group: str, protocol: str = "TCP") -> str:
        made = self.elb.create_listener(
            LoadBalancerArn=balancer, Protocol=protocol, Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
        )  # fmt: skip
        self.api.look()
        return str(made["Listeners"][0]["ListenerArn"])

    def register(self, group: str, *addresses: str, port: int = 443) -> None:
        targets = [{"Id": each, "Port": port} for each in addresses]
        self.elb.register_targets(TargetGroupArn=group, Targets=targets)

    @cached_property
    def provider(self) -> NetworkBalancer:
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return connect(self.arn, {**keys, "AWS_ENDPOINT_URL": self.base})

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drive(self, wish: Wanted, leave: Leave = NO_LEAVE, seconds: float = 300) -> State:
        clock = Clock(lambda: self.now, self.sleep)
        return drive(self.provider, wish, self.told.append, clock, seconds, leave)

    def calls(self) -> list[str]:
        return [each.action for each in self.api.changing]

    def state(self) -> dict[str, Any]:
        """Return all listeners and target groups."""
        found: dict[str, Any] = {}
        for balancer in self.elb.describe_load_balancers()["LoadBalancers"]:
            arn = balancer["LoadBalancerArn"]
            found[balancer["LoadBalancerName"]] = {
                each["Port"]: each
                for each in self.elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
            }
        for group in self.elb.describe_target_groups()["TargetGroups"]:
            arn = group["TargetGroupArn"]
            told = self.elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            health = self.elb.describe_target_health(TargetGroupArn=arn)
            found[group["TargetGroupName"]] = {
                **{k: v for k, v in group.items() if k != "LoadBalancerArns"},
                "attributes": {each["Key"]: each["Value"] for each in told},
                "targets": {each["Target"]["Id"]: each["Target"]["Port"]
                            for each in health["TargetHealthDescriptions"]},
            }  # fmt: skip
        return found

    def serving(self) -> dict[str, Any]:
        """Return the target group of port 443."""
        action = self.state()["fleet"][443]["DefaultActions"][0]
        shares = action.get("ForwardConfig", {}).get("TargetGroups", [{**action, "Weight": 1}])
        [arn] = [each["TargetGroupArn"] for each in shares if each.get("Weight", 1)]
        return next(each for each in self.state().values() if each.get("TargetGroupArn") == arn)

    def only_ours_changed(self) -> None:
        """Check that all that was there is as it was."""
        now = self.state()
        there = {name: now.get(name) or {} for name in self.theirs}
        for each in (there, self.theirs):
            each["fleet"] = {port: of for port, of in each["fleet"].items() if port != 443}
        assert differences(self.theirs, there) == {}
        others = set(now) - set(self.theirs)
        assert all(each.startswith("certsync-") for each in others)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with moto() as address:
        reset(address)
        ec2 = client(address, "ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        zones = [("10.0.0.0/24", "eu-west-3a"), ("10.0.1.0/24", "eu-west-3b")]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]
            for block, zone in zones
        ]
        yield Ground(address, vpc, [each["SubnetId"] for each in subnets])


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    world = World(ground)
    with serve(world.api) as base:
        world.base = base
        yield world
    world.only_ours_changed()


def wanted(rule: Rule | None, *names: str, draining: Sequence[str] = ()) -> Wanted:
    return Wanted(
        rule, {each: FLEET[each] for each in names}, FLEET, {each: FLEET[each] for each in draining}
    )


BOTH = wanted(PLAIN, "web-1", "web-2")


def test_an_empty_balancer_gets_a_target_group_with_its_members_and_the_listener(
    world: World,
) -> None:
    end = world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.told == [
        "port 443: TLS is passed through to port 8443, PROXY protocol v2",
        "web-1: gets traffic",
        "web-2: gets traffic",
    ]
    assert world.calls() == [
        "CreateTargetGroup", "ModifyTargetGroupAttributes", "CreateListener", "RegisterTargets",
    ]  # fmt: skip
    assert end.rule == Rule(8443, "v2", Check("tcp", NO_PORT))
    assert [(each.address, each.health) for each in end.members] == [
        ("10.0.0.11", "healthy"), ("10.0.0.12", "healthy"),
    ]  # fmt: skip
    group = world.serving()
    assert group["TargetGroupName"].endswith("-8443-v2")
    assert (group["Protocol"], group["TargetType"]) == ("TCP", "ip")
    assert group["targets"] == {"10.0.0.11": 8443, "10.0.0.12": 8443}
    assert group["attributes"]["proxy_protocol_v2.enabled"] == "true"
    assert group["attributes"]["preserve_client_ip.enabled"] == "false"
    tags = world.elb.describe_tags(ResourceArns=[group["TargetGroupArn"]])["TagDescriptions"]
    assert tags[0]["Tags"] == [{"Key": "certsync", "Value": world.arn}]


@pytest.mark.parametrize("rule", [PLAIN, Rule(8443, "v2", Check("tcp", 8443))])
def test_a_second_time_changes_nothing(world: World, rule: Rule) -> None:
    wish = wanted(rule, "web-1", "web-2")
    world.drive(wish)
    world.api.calls, world.told = [], []
    world.drive(wish)
    assert (world.calls(), world.told) == ([], [])


def test_without_proxy_the_source_is_left_as_it_is(world: World) -> None:
    world.drive(BOTH)
    assert "ModifyTargetGroupAttributes" not in world.calls()
    assert world.serving()["targets"] == {"10.0.0.11": 443, "10.0.0.12": 443}


def test_the_listener_moves_only_once_the_next_group_is_healthy(world: World) -> None:
    world.drive(BOTH)
    world.now += 100
    world.api.seconds, world.told, world.api.calls = 40, [], []
    begun = world.now
    world.drive(wanted(PROXY, "web-1", "web-2"))
    moved = [each.form for each in world.api.changing if each.action == "ModifyListener"]
    weights = [
        {name.rpartition(".")[2]: value for name, value in each.items() if "Weight" in name}
        for each in moved
    ]
    assert len(moved) == 2
    assert "0" in weights[0].values() or any(v == "0" for k, v in moved[0].items() if "Weight" in k)
    assert world.now - begun >= 40
    assert world.told == ["port 443: TLS is passed through to port 8443, PROXY protocol v2"]
    assert world.serving()["targets"] == {"10.0.0.11": 8443, "10.0.0.12": 8443}
    assert world.calls().count("RegisterTargets") == 1
    # The other group has kept its members: open connections stay with them.
    assert "DeregisterTargets" not in world.calls()


def test_it_moves_there_and_back(world: World) -> None:
    for rule in (PLAIN, PROXY, PLAIN, PROXY):
        world.drive(wanted(rule, "web-1", "web-2"))
        assert world.serving()["Port"] == rule.port
    assert len([each for each in world.state() if each.startswith("certsync-")]) == 2


def test_a_member_that_is_sick_there_too_does_not_hold_it_up(world: World) -> None:
    world.api.sick = {"10.0.0.12"}
    world.drive(BOTH)
    world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.serving()["Port"] == 8443


def test_a_move_that_does_not_become_healthy_is_told_and_undone_by_going_back(
    world: World,
) -> None:
    world.drive(BOTH)
    world.now += 20_000
    world.api.seconds = 10_000
    with pytest.raises(BusyError, match=r"10\.0\.0\.11, 10\.0\.0\.12 not healthy yet"):
        world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.serving()["Port"] == 443
    state = world.provider.read()
    assert state.rule
    assert state.rule.odd == ("a move to another target group was begun",)
    world.api.calls = []
    end = world.drive(BOTH)
    assert world.calls() == ["ModifyListener"]
    assert end.rule == Rule(443, "", Check("tcp", NO_PORT))


def test_members_that_have_left_meanwhile_do_not_come_back_with_the_other_group(
    world: World,
) -> None:
    world.drive(wanted(PLAIN, "web-1", "web-2", "web-3"))
    world.drive(wanted(PROXY, "web-1", "web-2", "web-3"))
    world.drive(wanted(PROXY, "web-1"))
    world.drive(wanted(PLAIN, "web-1"))
    assert world.serving()["targets"] == {"10.0.0.11": 443}


def test_drained_by_deregistration_and_then_gone(world: World) -> None:
    world.drive(BOTH)
    end = world.drive(wanted(PLAIN, "web-1", draining=["web-2"]))
    assert world.told[3:] == ["web-2: gets no new connections"]
    assert [each.address for each in end.members] == ["10.0.0.11"]
    world.api.calls = []
    world.drive(wanted(PLAIN, "web-1"))
    assert world.calls() == []
    world.drive(BOTH)
    assert set(world.serving()["targets"]) == {"10.0.0.11", "10.0.0.12"}


def test_a_member_leaves(world: World) -> None:
    world.drive(BOTH)
    world.drive(wanted(PLAIN, "web-1"))
    assert world.told[3:] == ["web-2: leaves the pool"]


def test_the_last_that_serves_stays_until_another_does(world: World) -> None:
    world.drive(wanted(PLAIN, "web-1"))
    world.now += 100
    world.api.seconds = 40
    world.drive(wanted(PLAIN, "web-2"))
    assert world.now >= 140
    assert set(world.serving()["targets"]) == {"10.0.0.12"}
    world.api.seconds = 10_000
    world.now += 20_000
    with pytest.raises(BusyError, match=r"10\.0\.0\.12 stays until another target is healthy"):
        world.drive(wanted(PLAIN, "web-3"))
    assert set(world.serving()["targets"]) == {"10.0.0.12", "10.0.0.13"}


def test_without_the_rule_there_is_no_listener_and_it_may_come_again(world: World) -> None:
    world.drive(BOTH)
    assert world.drive(wanted(None, "web-1")) == State(None)
    assert world.told[3:] == ["port 443: closed"]
    world.drive(wanted(PLAIN, "web-1"))
    assert world.serving()["targets"] == {"10.0.0.11": 443}


def test_what_an_unused_group_has_from_before_does_not_come_back(world: World) -> None:
    world.drive(wanted(PLAIN, "web-1", "web-2"))
    world.drive(wanted(None, "web-1"))
    world.drive(wanted(PLAIN, "web-2", "web-3"))
    assert set(world.serving()["targets"]) == {"10.0.0.12", "10.0.0.13"}


def test_targets_on_different_ports_and_twice_are_put_right(world: World) -> None:
    world.drive(wanted(PROXY, "web-1"))
    group = world.serving()["TargetGroupArn"]
    world.register(group, "10.0.0.12", port=443)
    state = world.provider.read()
    assert state.rule
    assert state.rule.port == MIXED_PORTS
    world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.serving()["targets"] == {"10.0.0.11": 8443, "10.0.0.12": 8443}


def test_settings_of_our_group_that_somebody_changed_are_put_right(world: World) -> None:
    world.drive(wanted(PROXY, "web-1"))
    group = world.serving()["TargetGroupArn"]
    changed = {"stickiness.enabled": "true", "preserve_client_ip.enabled": "true"}
    world.elb.modify_target_group_attributes(
        TargetGroupArn=group, Attributes=[{"Key": k, "Value": v} for k, v in changed.items()]
    )
    world.elb.modify_target_group(TargetGroupArn=group, HealthCheckPort="80")
    rule = Rule(8443, "v2", Check("tcp", 8443))
    end = world.drive(wanted(rule, "web-1"))
    assert end.rule == Rule(8443, "v2", Check("tcp", NO_PORT))
    attributes = world.serving()["attributes"]
    assert {attributes[each] for each in changed} == {"false"}


def test_a_foreign_target_group_is_refused_until_taken_over_and_then_left_alone(
    world: World,
) -> None:
    group = world.group("byhand")
    world.register(group, "10.0.0.11", "10.0.7.7")
    world.listener(world.arn, 443, group)
    world.theirs = world.state()
    with pytest.raises(RefusedChangeError, match="target group byhand, which certsync has not"):
        world.drive(BOTH)
    with pytest.raises(RefusedChangeError, match=r"10\.0\.7\.7 is in its pool"):
        world.drive(BOTH)
    assert world.calls() == []
    world.drive(BOTH, Leave(adopt=True))
    assert world.serving()["targets"] == {"10.0.0.11": 443, "10.0.0.12": 443}


def test_a_target_group_of_instances_is_taken_over_by_addresses(world: World) -> None:
    group = world.group("instances", TargetType="instance")
    world.listener(world.arn, 443, group)
    world.theirs = world.state()
    world.drive(BOTH, Leave(adopt=True))
    assert world.serving()["targets"] == {"10.0.0.11": 443, "10.0.0.12": 443}


def test_tls_that_is_opened_there_is_refused_until_taken_over(world: World) -> None:
    certificate = world.api.client("acm").request_certificate(DomainName="shop.example")
    group = world.group("tls", Protocol="TLS")
    world.elb.create_listener(
        LoadBalancerArn=world.arn, Protocol="TLS", Port=443,
        Certificates=[{"CertificateArn": certificate["CertificateArn"]}],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )  # fmt: skip
    world.theirs = world.state()
    with pytest.raises(RefusedChangeError, match="port 443 has protocol TLS: TLS is opened"):
        world.drive(BOTH)
    assert world.calls() == []
    world.drive(BOTH, Leave(adopt=True))
    assert world.state()["fleet"][443]["Protocol"] == "TCP"


def test_a_group_of_our_name_that_is_not_ours_is_left_alone(world: World) -> None:
    world.drive(BOTH)
    group = world.serving()["TargetGroupArn"]
    world.drive(wanted(None, "web-1"))
    world.elb.remove_tags(ResourceArns=[group], TagKeys=["certsync"])
    world.api.calls = []
    with pytest.raises(ManagedError, match="that certsync has not made for this balancer"):
        world.drive(BOTH)
    assert world.calls() == []


@pytest.mark.parametrize(
    "tag", ["elbv2.k8s.aws/cluster", "kubernetes.io/cluster/prod", "service.k8s.aws/stack"]
)
def test_what_a_kubernetes_cluster_drives_is_left_alone(world: World, tag: str) -> None:
    world.elb.add_tags(ResourceArns=[world.arn], Tags=[{"Key": tag, "Value": "owned"}])
    with pytest.raises(RefusedChangeError, match="a Kubernetes cluster drives"):
        world.drive(BOTH, Leave(adopt=True))
    assert world.calls() == []


def test_an_application_load_balancer_is_refused(world: World) -> None:
    world.arn = world.balancer("http", "application")
    world.theirs = world.state()
    with pytest.raises(RefusedChangeError, match="of type application, which cannot pass TLS"):
        world.drive(BOTH, Leave(adopt=True))


def test_a_check_by_https_is_refused(world: World) -> None:
    with pytest.raises(ManagedError, match="sends PROXY headers too"):
        world.drive(wanted(Rule(443, check=Check("https", 443, "/")), "web-1"))
    assert world.calls() == []


def nothing(_: World) -> None:
    """Change nothing."""


def has(rule: Rule, *names: str) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        world.drive(wanted(rule, *names))
        world.told.clear()

    return prepare


CHANGES = {
    "a group": (nothing, "CreateTargetGroup"),
    "its attributes": (nothing, "ModifyTargetGroupAttributes"),
    "its members": (nothing, "RegisterTargets"),
    "the listener": (nothing, "CreateListener"),
    "a member": (has(PROXY, "web-2"), "RegisterTargets"),
    "removal": (has(PROXY, "web-1", "web-2"), "DeregisterTargets"),
    "the PROXY protocol": (has(PLAIN, "web-1"), "ModifyListener"),
}
"""What is there before, and the call that goes wrong on the way from it."""

END = wanted(PROXY, "web-1")


def ended(world: World) -> bool:
    return bool(world.serving()["targets"] == {"10.0.0.11": 8443})


@pytest.mark.matrix
@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 400, "words": "Throttling"}, {"status": 429, "headers": {"Retry-After": "7"}},
        {"status": 500}, {"status": 503, "carried_out": True}, {"cut": True},
        {"status": 503, "seconds": 50},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())) if isinstance(fault, dict) else "",
)  # fmt: skip
def test_what_passes_costs_a_look(world: World, before: str, fault: dict[str, Any]) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, **fault)]
    world.drive(END)
    assert world.api.faults == []
    assert ended(world)
    assert len(world.told) == len(set(world.told))


@pytest.mark.matrix
@pytest.mark.parametrize("before", CHANGES)
def test_what_is_refused_and_carried_out_all_the_same_is_seen(world: World, before: str) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, 400, "ValidationError", carried_out=True)]
    with suppress(ManagedError):
        world.drive(END)
    world.drive(END)
    assert ended(world)
    assert world.calls().count(call) <= 3


@pytest.mark.matrix
@pytest.mark.parametrize("before", ["a group", "removal"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "why"),
    [
        (403, "InvalidClientTokenId", TokenError, "does not accept the keys"),
        (403, "AccessDenied", RightError, "AccessDenied"),
        (400, "TargetGroupNotFound", NoSuchError, "TargetGroupNotFound"),
        (409, "Conflict", BusyError, "not done yet"),
        (400, "ValidationError", ManagedError, "it is told to fail"),
        (422, "Unprocessable", ManagedError, "it is told to fail"),
        (400, "Throttling", LimitError, "too many calls"),
        (500, "InternalFailure", UncertainError, "internal error"),
    ],
)
def test_what_does_not_pass_is_told_and_the_next_run_ends_it(
    world: World, before: str, status: int, code: str, kind: type[ManagedError], why: str
) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, status, code, seconds=1000)]
    with pytest.raises(kind, match=why) as raised:
        world.drive(END)
    assert SECRET not in raised.value.message + raised.value.hint
    assert raised.value.hint
    world.now += 1001
    world.drive(END)
    assert ended(world)


@pytest.mark.parametrize("code", HINTS)
def test_each_code_has_a_hint_of_its_own(world: World, code: str) -> None:
    world.api.faults = [Fault("RegisterTargets", 400, code, seconds=1000)]
    with pytest.raises(ManagedError, match=code) as raised:
        world.drive(BOTH)
    assert raised.value.hint == HINTS[code]


def test_an_address_outside_the_vpc_is_told(world: World) -> None:
    fleet = {"far": "8.8.4.4"}
    with pytest.raises(ManagedError, match="is not within the VPC") as raised:
        world.drive(Wanted(PLAIN, fleet, fleet))
    assert raised.value.hint == HINTS["InvalidTarget"]
    assert world.provider.misfits(fleet) == {}


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "InvalidClientTokenId", TokenError), (403, "AccessDenied", RightError),
        (400, "LoadBalancerNotFound", NoSuchError), (500, "InternalFailure", UnansweredError),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "call",
    ["DescribeLoadBalancers", "DescribeListeners", "DescribeTargetGroups", "DescribeTags",
     "DescribeTargetHealth", "DescribeTargetGroupAttributes"],
)  # fmt: skip
def test_what_cannot_be_read_is_not_taken_for_absent(
    world: World, call: str, status: int, code: str, kind: type[ManagedError]
) -> None:
    world.drive(BOTH)
    world.api.calls, world.api.faults = [], [Fault(call, status, code)]
    with pytest.raises(kind):
        world.drive(END)
    assert world.calls() == []


def test_another_writer_between_two_calls_is_seen(world: World) -> None:
    world.drive(BOTH)
    group = world.serving()["TargetGroupArn"]

    def takes(_: Any) -> None:
        gone = [{"Id": "10.0.0.11", "Port": 443}]
        world.elb.deregister_targets(TargetGroupArn=group, Targets=gone)

    world.api.faults = [Fault("RegisterTargets", meanwhile=takes)]
    world.drive(wanted(PLAIN, "web-1", "web-2", "web-3"))
    assert set(world.serving()["targets"]) == set(FLEET.values())


def test_a_listener_that_somebody_makes_first_is_seen(world: World) -> None:
    group = world.group("byhand")
    world.theirs = world.state()

    def makes(_: Any) -> None:
        world.listener(world.arn, 443, group)

    world.api.faults = [Fault("CreateListener", meanwhile=makes)]
    with pytest.raises(RefusedChangeError, match="which certsync has not made"):
        world.drive(BOTH)


def test_wrong_keys_are_told_and_they_are_shown_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for each in ("botocore", "boto3", "urllib3"):
        caplog.set_level(logging.DEBUG, each)
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": "session-token-5d1e", "AWS_ENDPOINT_URL": world.base}  # fmt: skip
    provider = connect(world.arn, keys)
    provider.read()
    world.api.key = "AKIAANOTHER"
    with pytest.raises(TokenError, match="does not accept the keys") as raised:
        provider.read()
    everything = caplog.text + repr(vars(provider._api)) + raised.value.message + raised.value.hint
    assert caplog.text
    assert SECRET not in everything
    assert "session-token-5d1e" not in everything


def test_a_wrong_secret_key_is_told(world: World) -> None:
    world.api.secret = "another-secret"
    with pytest.raises(TokenError, match="SignatureDoesNotMatch") as caught:
        world.drive(BOTH)
    assert SECRET not in str(caught.value)


def test_a_call_is_never_repeated_by_boto3(world: World) -> None:
    for status in (500, 503, 429):
        world.api.calls, world.api.faults = [], [Fault("DescribeListeners", status)]
        with pytest.raises(ManagedError):
            world.provider.read()
        assert [each.action for each in world.api.calls].count("DescribeListeners") == 1


def test_it_is_connected_by_its_arn_and_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ManagedError, match="ARN is needed, not fleet"):
        connect("fleet", {})
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with pytest.raises(ManagedError, match="no https:// URL"):
        connect(world.arn, {**keys, "AWS_ENDPOINT_URL": "http://elb.example"})
    with pytest.raises(ManagedError, match="cannot be called: The config profile"):
        connect(world.arn, {"AWS_PROFILE": "nobody"})
    for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(each, raising=False)
    for each in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(each, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(NoCredentialsError, match="there are no keys"):
        connect(world.arn, {"AWS_ENDPOINT_URL": world.base})


def test_nobody_there_is_told(world: World) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    provider = connect(world.arn, {**keys, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    with pytest.raises(UnansweredError, match="cannot be reached"):
        provider.read()


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in [name for name in sys.modules if ".managed.aws" in name]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, "boto3", None)
    arn = "arn:aws:elasticloadbalancing:eu-west-3:123456789012:loadbalancer/net/fleet/0a1b"
    with pytest.raises(ManagedError, match="aws needs Python packages") as raised:
        providers.connect(Balancer(provider=Provider.AWS, load_balancer=arn), {})
    assert "certsync-fleet[deploy,aws]" in raised.value.hint

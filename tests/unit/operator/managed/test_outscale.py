"""A load balancer of Outscale is driven, against moto with a strict layer before it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from certsync.model.options import Balancer, Provider
from certsync.operator.balancer.managed import providers
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import Clock, Leave, drive
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    ManagedError,
    NoSuchError,
    RefusedChangeError,
    RightError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.outscale import OutscaleBalancer, connect
from certsync.operator.balancer.managed.outscale_form import HINTS
from certsync.operator.balancer.managed.port import Check, Drain, Member, Rule, State
from tests.doubles.contract import Fault, differences
from tests.doubles.layer import KEY, REGION, SECRET, client, moto, reset
from tests.doubles.outscale import Outscale
from tests.doubles.server import serve

FLEET = {"web-1": "10.0.0.11", "web-2": "10.0.0.12", "web-3": "10.0.0.13"}
PLAIN, PROXY = Rule(443), Rule(8443, "v1")
GAP, ADOPT = Leave(gap=True), Leave(adopt=True, gap=True)
NO_LEAVE = Leave()


@dataclass(frozen=True)
class Ground:
    """A Net with the fleet's machines, and one of somebody else; the same for all tests."""

    moto: str
    subnet: str
    ids: dict[str, str]


@dataclass
class World:
    """A load balancer with a website on port 80, beside one of somebody else."""

    ground: Ground
    now: float = 0
    told: list[str] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        self.api = Outscale(self.ground.moto, lambda: self.now)
        self.elb, self.ids, self.subnet = (
            self.api.client("elb"), self.ground.ids, self.ground.subnet,
        )  # fmt: skip
        for each in self.elb.describe_load_balancers()["LoadBalancerDescriptions"]:
            self.elb.delete_load_balancer(LoadBalancerName=each["LoadBalancerName"])
        for name, port in (("fleet", 80), ("other", 443)):
            self.elb.create_load_balancer(
                LoadBalancerName=name, Subnets=[self.subnet],
                Listeners=[{"Protocol": "TCP", "LoadBalancerPort": port, "InstancePort": port}],
            )  # fmt: skip
        check = {"Target": "HTTP:80/", "Interval": 30, "Timeout": 5, "UnhealthyThreshold": 5,
                 "HealthyThreshold": 3}  # fmt: skip
        self.elb.configure_health_check(LoadBalancerName="fleet", HealthCheck=check)
        self.register("other", "web-1")
        self.theirs = self.state()

    def register(self, balancer: str, *names: str) -> None:
        self.elb.register_instances_with_load_balancer(
            LoadBalancerName=balancer, Instances=[{"InstanceId": self.ids[n]} for n in names]
        )

    def tls(self, *names: str, protocol: str = "TCP", port: int = 443) -> None:
        """Give port 443 a listener, and the load balancer instances."""
        listener = {"Protocol": protocol, "LoadBalancerPort": 443, "InstanceProtocol": "TCP",
                    "InstancePort": port}  # fmt: skip
        self.elb.create_load_balancer_listeners(LoadBalancerName="fleet", Listeners=[listener])
        if names:
            self.register("fleet", *names)

    @cached_property
    def provider(self) -> OutscaleBalancer:
        return connect("fleet", self.environment())

    def environment(self) -> dict[str, str]:
        return {
            "OSC_REGION": REGION, "OSC_ACCESS_KEY": KEY, "OSC_SECRET_KEY": SECRET,
            "OSC_ENDPOINT_LBU": self.base, "OSC_ENDPOINT_FCU": self.base,
        }  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drive(self, wish: Wanted, leave: Leave = NO_LEAVE, seconds: float = 300) -> State:
        clock = Clock(lambda: self.now, self.sleep)
        return drive(self.provider, wish, self.told.append, clock, seconds, leave)

    def calls(self) -> list[str]:
        return [each.action for each in self.api.changing]

    def state(self) -> dict[str, Any]:
        """Return all load balancers as moto has them."""
        found = {}
        for each in self.elb.describe_load_balancers()["LoadBalancerDescriptions"]:
            listeners = {
                of["Listener"]["LoadBalancerPort"]: of for of in each["ListenerDescriptions"]
            }
            found[each["LoadBalancerName"]] = {**each, "ListenerDescriptions": listeners}
        return found

    def members(self) -> list[str]:
        names = {number: name for name, number in self.ids.items()}
        return [names[each["InstanceId"]] for each in self.state()["fleet"]["Instances"]]

    def listener(self) -> tuple[int, bool]:
        """Return where port 443 sends to, and whether with the PROXY protocol."""
        port = self.state()["fleet"]["ListenerDescriptions"][443]["Listener"]["InstancePort"]
        return port, "certsync-proxy" in self.api.policies.get(("fleet", port), [])

    def only_ours_changed(self, *, check: bool = False) -> None:
        """Check that all but port 443, the instances and our policy is as it was."""

        def rest(state: dict[str, Any]) -> dict[str, Any]:
            ours = dict(state["fleet"])
            for name in ("Instances", "Policies", "BackendServerDescriptions"):
                ours.pop(name)
            if check:
                ours.pop("HealthCheck")
            listeners = ours["ListenerDescriptions"].items()
            ours["ListenerDescriptions"] = {port: of for port, of in listeners if port != 443}
            return {**state, "fleet": ours}

        assert differences(rest(self.theirs), rest(self.state())) == {}


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with moto() as address:
        reset(address)
        ec2 = client(address, "ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        ids = {}
        for name, private in {**FLEET, "stranger": "10.0.0.77"}.items():
            made = ec2.run_instances(
                ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet,
                PrivateIpAddress=private,
            )  # fmt: skip
            ids[name] = str(made["Instances"][0]["InstanceId"])
        yield Ground(address, subnet, ids)


@pytest.fixture
def world(ground: Ground) -> Iterator[World]:
    world = World(ground)
    with serve(world.api) as base:
        world.base = base
        yield world
    world.only_ours_changed(check="ConfigureHealthCheck" in world.calls())


def wanted(rule: Rule | None, *names: str) -> Wanted:
    return Wanted(rule, {each: FLEET[each] for each in names}, FLEET)


BOTH = wanted(PLAIN, "web-1", "web-2")


def test_an_empty_balancer_gets_its_members_the_policy_and_then_the_listener(
    world: World,
) -> None:
    end = world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.told == [
        "web-1: gets traffic",
        "web-2: gets traffic",
        "port 443: TLS is passed through to port 8443, PROXY protocol v1",
    ]
    assert world.calls() == [
        "RegisterInstancesWithLoadBalancer", "CreateLoadBalancerPolicy",
        "SetLoadBalancerPoliciesForBackendServer", "CreateLoadBalancerListeners",
    ]  # fmt: skip
    assert world.listener() == (8443, True)
    assert end.rule == Rule(8443, "v1", Check("http", 80, "/"))
    assert [(each.address, each.health) for each in end.members] == [
        ("10.0.0.11", "InService"), ("10.0.0.12", "InService"),
    ]  # fmt: skip


@pytest.mark.parametrize("rule", [PLAIN, PROXY, Rule(443, check=Check("https", 443, "/health"))])
def test_a_second_time_changes_nothing(world: World, rule: Rule) -> None:
    wish = wanted(rule, "web-1", "web-2")
    world.drive(wish)
    world.api.calls, world.told = [], []
    world.drive(wish)
    assert (world.calls(), world.told) == ([], [])
    if rule.check:
        world.only_ours_changed(check=True)
        world.theirs["fleet"]["HealthCheck"] = world.state()["fleet"]["HealthCheck"]


def test_the_rule_moves_only_with_leave_for_the_gap(world: World) -> None:
    world.drive(BOTH)
    world.api.calls = []
    with pytest.raises(RefusedChangeError, match="closes port 443 for up to 30 s") as raised:
        world.drive(wanted(PROXY, "web-1", "web-2"))
    assert "--accept-gap" in raised.value.hint
    assert world.calls() == []
    world.drive(wanted(PROXY, "web-1", "web-2"), GAP)
    assert world.calls()[-2:] == ["DeleteLoadBalancerListeners", "CreateLoadBalancerListeners"]
    assert world.listener() == (8443, True)
    world.drive(BOTH, GAP)
    assert world.listener() == (443, False)
    world.api.calls = []
    world.drive(wanted(PROXY, "web-1", "web-2"), GAP)
    # The policy is there still, and port 8443 has it.
    assert world.calls() == ["DeleteLoadBalancerListeners", "CreateLoadBalancerListeners"]


def test_port_8443_never_gets_connections_without_the_proxy_protocol(world: World) -> None:
    for rule in (PLAIN, PROXY, PLAIN, PROXY):
        world.drive(wanted(rule, "web-1"), GAP)
    ours = {moment[1:] for moment in world.api.moments if moment[0] == "fleet"}
    assert ours == {(0, False), (443, False), (8443, True)}


def test_other_policies_of_the_port_are_kept(world: World) -> None:
    world.elb.create_load_balancer_policy(
        LoadBalancerName="fleet", PolicyName="keys", PolicyTypeName="PublicKeyPolicyType",
        PolicyAttributes=[{"AttributeName": "PublicKey", "AttributeValue": "k"}],
    )  # fmt: skip
    world.api.policies["fleet", 8443] = ["keys"]
    world.drive(wanted(PROXY, "web-1"))
    assert world.api.policies["fleet", 8443] == ["keys", "certsync-proxy"]


def test_a_policy_of_another_name_counts_as_well(world: World) -> None:
    world.elb.create_load_balancer_policy(
        LoadBalancerName="fleet", PolicyName="byhand", PolicyTypeName="ProxyProtocolPolicyType",
        PolicyAttributes=[{"AttributeName": "ProxyProtocol", "AttributeValue": "true"}],
    )  # fmt: skip
    world.api.policies["fleet", 8443] = ["byhand"]
    world.tls("web-1", port=8443)
    world.drive(wanted(PROXY, "web-1"))
    assert world.calls() == []


def test_a_listener_that_shares_the_proxy_protocol_is_told(world: World) -> None:
    world.drive(wanted(PROXY, "web-1"))
    shared = {"Protocol": "TCP", "LoadBalancerPort": 8443, "InstancePort": 8443}
    world.elb.create_load_balancer_listeners(LoadBalancerName="fleet", Listeners=[shared])
    world.theirs["fleet"]["ListenerDescriptions"] = world.state()["fleet"]["ListenerDescriptions"]
    with pytest.raises(RefusedChangeError, match="port 8443 sends to port 8443 too"):
        world.drive(wanted(PROXY, "web-1", "web-2"))


def test_a_check_is_set_with_what_it_has_besides(world: World) -> None:
    end = world.drive(wanted(Rule(443, check=Check("https", 443, "/health")), "web-1"))
    assert end.rule == Rule(443, "", Check("https", 443, "/health"))
    assert world.state()["fleet"]["HealthCheck"] == {
        "Target": "HTTPS:443/health", "Interval": 30, "Timeout": 5, "UnhealthyThreshold": 5,
        "HealthyThreshold": 3,
    }  # fmt: skip


def test_while_port_443_is_closed_the_check_is_what_port_80_needs(world: World) -> None:
    for check in (Check("https", 443, "/health"), Check("tcp", 80)):
        wish = Wanted(None, {"web-1": FLEET["web-1"]}, FLEET, check=check)
        assert world.drive(wish).check == check
    assert world.calls().count("ConfigureHealthCheck") == 2
    assert world.told[-1] == "the health check becomes tcp on port 80"


def test_a_member_leaves_as_the_provider_cannot_drain(world: World) -> None:
    world.drive(BOTH)
    world.drive(Wanted(PLAIN, {"web-1": FLEET["web-1"]}, FLEET, {"web-2": FLEET["web-2"]}))
    assert world.told[3:] == ["web-2: leaves the pool"]
    assert world.members() == ["web-1"]
    provider = world.provider
    with pytest.raises(ManagedError, match="cannot drain"):
        provider.apply([Drain(Member("10.0.0.11", "i-1"))])


def test_without_the_rule_port_443_is_closed_and_may_open_again(world: World) -> None:
    world.drive(BOTH)
    assert world.drive(wanted(None, "web-1", "web-2")).rule is None
    assert world.told[3:] == ["port 443: closed"]
    world.drive(BOTH)
    assert world.listener() == (443, False)


def test_the_health_of_instances_is_told(world: World) -> None:
    world.tls("web-1", "web-2")
    world.api.out = {world.ids["web-2"]}
    assert [each.health for each in world.provider.read().members] == [
        "InService", "OutOfService",
    ]  # fmt: skip


def test_a_machine_that_is_not_there_is_told(world: World) -> None:
    fleet = {"gone": "10.0.0.99"}
    with pytest.raises(ManagedError, match=r"no VM in the load balancer's Net has .*10\.0\.0\.99"):
        world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.calls() == []
    assert world.provider.misfits({**FLEET, **fleet}) == {
        "gone": "no VM in the load balancer's Net has the private address 10.0.0.99"
    }
    assert world.provider.misfits({}) == {}


def test_one_that_is_not_there_does_not_keep_the_others_out(world: World) -> None:
    fleet = {"web-1": FLEET["web-1"], "gone": "10.0.0.99", "web-2": FLEET["web-2"]}
    with pytest.raises(ManagedError, match="gone: no VM"):
        world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.members() == ["web-1", "web-2"]


def test_instances_that_are_not_the_fleets_are_refused_until_taken_over(world: World) -> None:
    world.tls("web-1", "stranger")
    with pytest.raises(RefusedChangeError, match=r"10\.0\.0\.77 is in its pool"):
        world.drive(BOTH)
    world.drive(BOTH, ADOPT)
    assert world.members() == ["web-1", "web-2"]


def test_another_protocol_on_the_port_is_refused_until_taken_over(world: World) -> None:
    world.tls("web-1", protocol="HTTP")
    with pytest.raises(RefusedChangeError, match=r"port 443 has protocol HTTP .*TLS is not passed"):
        world.drive(BOTH)
    with pytest.raises(RefusedChangeError, match="closes port 443 for up to 30 s"):
        world.drive(BOTH, Leave(adopt=True))
    assert world.calls() == []
    world.drive(BOTH, ADOPT)
    assert world.state()["fleet"]["ListenerDescriptions"][443]["Listener"]["Protocol"] == "TCP"


def test_what_a_kubernetes_cluster_drives_is_left_alone(world: World) -> None:
    tags = [{"Key": "OscK8sClusterID/prod", "Value": "owned"}]
    world.elb.add_tags(LoadBalancerNames=["fleet"], Tags=tags)
    with pytest.raises(RefusedChangeError, match="a Kubernetes cluster drives"):
        world.drive(BOTH, ADOPT)
    assert world.calls() == []


def nothing(_: World) -> None:
    """Change nothing."""


def has(rule: Rule, *names: str) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        world.drive(wanted(rule, *names))
        world.told.clear()

    return prepare


CHANGES = {
    "a member": (has(PROXY, "web-2"), "RegisterInstancesWithLoadBalancer"),
    "the policy": (nothing, "CreateLoadBalancerPolicy"),
    "its port": (nothing, "SetLoadBalancerPoliciesForBackendServer"),
    "the listener": (nothing, "CreateLoadBalancerListeners"),
    "removal": (has(PROXY, "web-1", "web-2"), "DeregisterInstancesFromLoadBalancer"),
    "closing": (has(PLAIN, "web-1"), "DeleteLoadBalancerListeners"),
    "opening again": (has(PLAIN, "web-1"), "CreateLoadBalancerListeners"),
}
"""What is there before, and the call that goes wrong on the way from it."""

END = wanted(PROXY, "web-1")


def ended(world: World) -> bool:
    return world.listener() == (8443, True) and world.members() == ["web-1"]


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
    world.drive(END, GAP)
    assert world.api.faults == []
    assert ended(world)
    assert len(world.told) == len(set(world.told))
    assert ("fleet", 8443, False) not in world.api.moments


@pytest.mark.matrix
@pytest.mark.parametrize("before", CHANGES)
def test_what_is_refused_and_carried_out_all_the_same_is_seen(world: World, before: str) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, 400, "ValidationError", carried_out=True)]
    with suppress(ManagedError):
        world.drive(END, GAP)
    world.drive(END, GAP)
    assert ended(world)


@pytest.mark.matrix
@pytest.mark.parametrize("before", ["the policy", "removal"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "why"),
    [
        (403, "InvalidClientTokenId", TokenError, "does not accept the keys"),
        (400, "AuthFailure", TokenError, "does not accept the keys"),
        (403, "AccessDenied", RightError, "AccessDenied"),
        (400, "LoadBalancerNotFound", NoSuchError, "LoadBalancerNotFound"),
        (409, "InvalidConfigurationRequest", BusyError, "not done yet"),
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
        world.drive(END, GAP)
    assert SECRET not in raised.value.message + raised.value.hint
    assert raised.value.hint
    world.now += 1001
    world.drive(END, GAP)
    assert ended(world)


@pytest.mark.parametrize("code", HINTS)
def test_each_code_has_a_hint_of_its_own(world: World, code: str) -> None:
    world.api.faults = [Fault("RegisterInstancesWithLoadBalancer", 400, code, seconds=1000)]
    with pytest.raises(ManagedError, match=code) as raised:
        world.drive(BOTH)
    assert raised.value.hint == HINTS[code]


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
    ["DescribeLoadBalancers", "DescribeInstanceHealth", "DescribeInstances", "DescribeTags",
     "DescribeLoadBalancerPolicies"],
)  # fmt: skip
def test_what_cannot_be_read_is_not_taken_for_absent(
    world: World, call: str, status: int, code: str, kind: type[ManagedError]
) -> None:
    world.drive(wanted(PROXY, "web-2"))
    world.api.calls, world.api.faults = [], [Fault(call, status, code)]
    with pytest.raises(kind):
        world.drive(END)
    assert world.calls() == []


def test_another_writer_between_two_calls_is_seen(world: World) -> None:
    world.drive(BOTH)

    def takes(_: Any) -> None:
        gone = [{"InstanceId": world.ids["web-1"]}]
        world.elb.deregister_instances_from_load_balancer(LoadBalancerName="fleet", Instances=gone)

    world.api.faults = [Fault("RegisterInstancesWithLoadBalancer", meanwhile=takes)]
    world.drive(wanted(PLAIN, "web-1", "web-2", "web-3"))
    assert sorted(world.members()) == sorted(FLEET)


def test_a_listener_that_somebody_makes_first_is_seen(world: World) -> None:
    def makes(_: Any) -> None:
        world.tls(port=8443)

    world.api.faults = [Fault("CreateLoadBalancerListeners", meanwhile=makes)]
    world.drive(END)
    assert ended(world)


def test_wrong_keys_are_told_and_they_are_shown_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for each in ("botocore", "boto3", "urllib3"):
        caplog.set_level(logging.DEBUG, each)
    world.drive(BOTH)
    world.api.key = "AKIAANOTHER"
    with pytest.raises(TokenError, match="does not accept the keys") as raised:
        world.provider.read()
    everything = (
        caplog.text + repr(vars(world.provider._api)) + str(raised.value) + raised.value.hint
    )
    assert caplog.text
    assert SECRET not in everything
    assert "OSC_ACCESS_KEY" in raised.value.hint


def test_it_is_connected_by_its_name_and_the_environment(world: World) -> None:
    aws = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    ends = {"OSC_ENDPOINT_LBU": world.base, "OSC_ENDPOINT_FCU": world.base}
    assert connect("fleet", {**aws, **ends}).read().rule is None
    assert connect("fleet", aws)._api._client.meta.endpoint_url == (
        f"https://lbu.{REGION}.outscale.com"
    )
    assert connect("fleet", aws)._machines._client.meta.endpoint_url == (
        f"https://fcu.{REGION}.outscale.com"
    )
    for region in ("", "evil.example/"):
        with pytest.raises(ManagedError, match="OSC_REGION has no region"):
            connect("fleet", {**aws, "AWS_REGION": region})
    with pytest.raises(ManagedError, match="no https:// URL"):
        connect("fleet", {**aws, "OSC_ENDPOINT_LBU": "http://lbu.example"})
    with pytest.raises(NoSuchError, match="LoadBalancerNotFound"):
        connect("nobody", {**aws, **ends}).read()


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in [n for n in sys.modules if ".managed.outscale" in n or ".managed.aws" in n]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ManagedError, match="outscale needs Python packages") as raised:
        providers.connect(Balancer(provider=Provider.OUTSCALE, load_balancer="fleet"), {})
    assert "certsync-fleet[deploy,outscale]" in raised.value.hint

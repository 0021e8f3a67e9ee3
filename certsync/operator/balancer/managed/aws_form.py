"""What a Network Load Balancer has, in certsync's words. Nothing is asked here.

Sources: as in `aws.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certsync.operator.balancer.managed.port import MIXED_PORTS, NO_PORT, Check, Member, Rule
from certsync.system.terminal import harmless

TAG = "certsync"
"""The tag of our target groups; its value is the load balancer's ARN."""

RIGHTS = (
    "elasticloadbalancing: DescribeLoadBalancers, DescribeListeners, DescribeTargetGroups, "
    "DescribeTargetGroupAttributes, DescribeTargetHealth, DescribeTags; CreateListener, "
    "ModifyListener, DeleteListener, CreateTargetGroup, AddTags, ModifyTargetGroup, "
    "ModifyTargetGroupAttributes, RegisterTargets, DeregisterTargets"
)
HINTS = {
    "InvalidTarget": "is private_address in the fleet file in the load balancer's VPC?",
    "DuplicateListener": "somebody else has just made this listener: run it again",
    "DuplicateTargetGroupName": "a target group of this name is somebody else's, or not as we make "
    "it: remove it, if nothing uses it",
    "TooManyTargets": "raise the account's quota of targets",
    "TooManyListeners": "raise the account's quota of listeners",
    "TooManyTargetGroups": "raise the account's quota of target groups",
    "TooManyRegistrationsForTargetId": "take the backend out of target groups that nothing uses",
    "TargetGroupAssociationLimit": "the target group is in use by another load balancer",
}
CHECK = {
    "HealthCheckProtocol": "TCP", "HealthCheckPort": "traffic-port",
    "HealthCheckIntervalSeconds": 10, "HealthyThresholdCount": 2, "UnhealthyThresholdCount": 2,
}  # fmt: skip
"""The check of our groups. With PROXY it sends a header too, so that it must not go to port 443
(the guide, "Proxy protocol"; kubernetes#57250)."""

CLUSTER = re.compile(r"(\w+\.k8s\.aws|kubernetes\.io)/.*")
"""Tags that Kubernetes' controllers give (AWS Load Balancer Controller, and the cloud provider)."""


@dataclass(frozen=True)
class Group:
    """A target group."""

    of: Mapping[str, Any]
    weight: int
    """Its share of new connections."""

    attributes: Mapping[str, str]
    tags: Mapping[str, str]
    health: Sequence[Mapping[str, Any]]

    @property
    def arn(self) -> str:
        """Return its identifier."""
        return str(self.of["TargetGroupArn"])

    @property
    def name(self) -> str:
        """Return its name, printable."""
        return harmless(str(self.of["TargetGroupName"]))

    @property
    def targets(self) -> list[Mapping[str, Any]]:
        """Return those that get new connections: not those that are being drained, or gone."""
        return [each for each in self.health if each["TargetHealth"]["State"] != "draining"]

    def is_of(self, balancer: str) -> bool:
        """Return whether we have made it for this load balancer."""
        return self.tags.get(TAG) == balancer


@dataclass(frozen=True)
class Listener:
    """The listener of port 443."""

    of: Mapping[str, Any]
    groups: Sequence[Group]

    @staticmethod
    def shares(of: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Return the target groups of a listener, each with its share."""
        found: list[tuple[str, int]] = []
        for action in of.get("DefaultActions", ()):
            groups = (action.get("ForwardConfig") or {}).get("TargetGroups")
            if not groups and "TargetGroupArn" in action:
                groups = [{"TargetGroupArn": action["TargetGroupArn"]}]
            found += [(each["TargetGroupArn"], each.get("Weight", 1)) for each in groups or ()]
        return found

    @property
    def arn(self) -> str:
        """Return its identifier."""
        return str(self.of["ListenerArn"])

    @property
    def protocol(self) -> str:
        """Return its protocol, printable."""
        return harmless(str(self.of["Protocol"]))

    @property
    def active(self) -> Group:
        """Return the target group that serves."""
        return max(self.groups, key=lambda each: each.weight)

    def objections(self, balancer: str) -> tuple[str, ...]:
        """Return what speaks against taking it for ours, in words."""
        found = []
        if self.protocol != "TCP":
            opened = ": TLS is opened there" if self.protocol == "TLS" else ""
            found.append(f"port 443 has protocol {self.protocol}{opened}")
        if sum(each.weight > 0 for each in self.groups) > 1:
            found.append("port 443 is shared among several target groups")
        found += [
            f"port 443 forwards to target group {each.name}, which certsync has not made"
            for each in self.groups
            if not each.is_of(balancer)
        ]
        return tuple(found)


def rule_of(listener: Listener, balancer: str) -> Rule:
    """Return a listener as a rule."""
    group, odd = listener.active, [*listener.objections(balancer)]
    ports = {each["Target"]["Port"] for each in group.targets}
    port = ports.pop() if len(ports) == 1 else MIXED_PORTS if ports else group.of.get("Port", 0)
    proxy = group.attributes.get("proxy_protocol_v2.enabled") == "true"
    if proxy and group.attributes.get("preserve_client_ip.enabled") == "true":
        odd.append("backends see the client as the source, not the balancer")
    if group.attributes.get("stickiness.enabled") == "true":
        odd.append("a client stays with one target")
    if len(listener.groups) > 1 and not odd:
        odd.append("a move to another target group was begun")
    protocol = str(group.of.get("HealthCheckProtocol", "")).lower()
    told = str(group.of.get("HealthCheckPort", ""))
    check = Check(
        harmless(protocol),
        int(told) if told.isdecimal() else NO_PORT,
        harmless(str(group.of.get("HealthCheckPath") or "")),
    )
    return Rule(int(port), "v2" if proxy else "", check, tuple(odd))


def member_of(target: Mapping[str, Any]) -> Member:
    """Return a target as a member; an instance has no address here."""
    name, port = str(target["Target"]["Id"]), target["Target"]["Port"]
    address = name if re.fullmatch(r"[0-9a-f.:]+", name) else ""
    health = harmless(str(target["TargetHealth"]["State"]))
    return Member(address, f"{harmless(name)}:{port}", health=health)


def addresses_of(group: Group, *health: str) -> list[str]:
    """Return the addresses in a group, or those whose health is one of these."""
    members = [member_of(each) for each in group.targets]
    return [
        each.address for each in members if each.address and (not health or each.health in health)
    ]


def obstacles_of(
    balancer: Mapping[str, Any], tags: Mapping[str, str], listener: Listener | None
) -> Iterator[str]:
    """Give what makes it impossible to drive this load balancer, in words."""
    if balancer["Type"] != "network":
        kind = harmless(str(balancer["Type"]))
        yield f"it is no Network Load Balancer, but of type {kind}, which cannot pass TLS through"
    if balancer["State"]["Code"] == "failed":
        yield "it could not be set up"
    groups = listener.groups if listener else ()
    marks = sorted(each for each in {*tags, *(t for g in groups for t in g.tags)})
    if found := [each for each in marks if CLUSTER.fullmatch(each)]:
        yield f"a Kubernetes cluster drives this load balancer ({harmless(found[0])})"
    if listener and not listener.groups:
        yield "port 443 forwards to no target group"

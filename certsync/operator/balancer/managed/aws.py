"""A Network Load Balancer of AWS as a balancer of certsync: its listener of port 443.

The target groups are ours: one for each target port and PROXY protocol, by name and tag. A rule
changes by moving the listener from one to the other. The load balancer itself is never made or
deleted. Sources: botocore 1.44, and AWS' guide to Network Load Balancers; what only issues tell has
its source beside it; [?] is what nobody documents. Nothing here was tried with a real one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from certsync.operator.balancer.managed.aws_api import Access, Service
from certsync.operator.balancer.managed.aws_form import (
    CHECK,
    HINTS,
    RIGHTS,
    TAG,
    Group,
    Listener,
    addresses_of,
    member_of,
    obstacles_of,
    rule_of,
)
from certsync.operator.balancer.managed.errors import BusyError, ManagedError, NoSuchError
from certsync.operator.balancer.managed.port import (
    Ability,
    Admit,
    Change,
    Drain,
    DropRule,
    Member,
    Remove,
    Rule,
    SetRule,
    State,
)
from certsync.system.terminal import harmless

ARN = re.compile(
    r"arn:aws[\w-]*:elasticloadbalancing:([a-z0-9-]+):\d{12}:loadbalancer/\w+/[\w-]+/[0-9a-f]+"
)
TLS = 443
VARIABLES = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile: are they complete?"


def connect(balancer: str, environment: Mapping[str, str]) -> NetworkBalancer:
    """Return a load balancer by its ARN, which has the region.

    ``environment`` has the keys, or boto3 finds them itself, as it does the endpoint.

    Raises:
        ManagedError: it is no ARN, or there is no such profile.
    """
    found = ARN.fullmatch(balancer)
    if not found:
        raise ManagedError(
            f"a load balancer's ARN is needed, not {harmless(balancer)}",
            "see balancer.load_balancer in the fleet file; the EC2 console shows the ARN",
        )
    own: dict[str, str | None] = {}
    if environment.get("AWS_ACCESS_KEY_ID"):
        own = {
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment.get("AWS_SECRET_ACCESS_KEY") or "none",
            "aws_session_token": environment.get("AWS_SESSION_TOKEN"),
        }
    elif environment.get("AWS_PROFILE"):
        own = {"profile_name": environment["AWS_PROFILE"]}
    access = Access("AWS", VARIABLES, RIGHTS, HINTS, own)
    endpoint = environment.get("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2")
    endpoint = endpoint or environment.get("AWS_ENDPOINT_URL")
    return NetworkBalancer(Service(access, "elbv2", found[1], endpoint), balancer)


class NetworkBalancer:
    """One load balancer."""

    # A member is drained by deregistration, and is gone once that has ended; so one that is drained
    # is not listed any more. When the listener moves to another group, open connections stay where
    # they are for up to an hour (the guide, "Update a listener").
    ability = Ability(shared_pool=False, drains=True, proxy=("v2",), pool_of_rule=True)

    def __init__(self, service: Service, arn: str) -> None:
        """``arn``: its identifier."""
        self._api = service
        self._arn = arn
        self._vpc = ""
        self._listener: Listener | None = None

    def read(self) -> State:
        """Return what port 443 has."""
        try:
            found = self._api.ask("describe_load_balancers", LoadBalancerArns=[self._arn])
            balancer = found["LoadBalancers"][0]
            self._vpc = balancer["VpcId"]
            self._listener = listener = self._listener_now()
            rule = rule_of(listener, self._arn) if listener else None
            state = balancer["State"]["Code"]
            return State(
                rule,
                tuple(map(member_of, listener.active.targets)) if listener else (),
                busy="" if state.startswith("active") else harmless(f"it is {state}"),
                objections=listener.objections(self._arn) if listener else (),
                obstacles=tuple(obstacles_of(balancer, self._tags(self._arn), listener)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ManagedError(
                f"AWS answers in a form that this version does not know ({error!r})",
                "is there a newer certsync, or a newer boto3?",
            ) from None

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  # the port's
        """Return nothing: only the API knows which addresses its VPC has, when one is used."""
        return {}

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first change to what was read last; members that come at once, by one call."""
        change, listener = changes[0], self._listener
        admits = [each for each in changes if isinstance(each, Admit)]
        rule = next((each.rule for each in changes if isinstance(each, SetRule)), None)
        ours = listener is not None and listener.active.is_of(self._arn)
        if isinstance(change, SetRule) or (rule and isinstance(change, Admit) and not ours):
            # Nobody is put into a group that is not ours: they come with the move to one of ours.
            assert rule
            self._set(rule, [each.address for each in admits])
        elif listener is None:
            raise ManagedError("port 443 has no listener", "run the same command again")
        elif isinstance(change, DropRule):
            self._api.send("delete_listener", ListenerArn=listener.arn)
        elif isinstance(change, Admit):
            self._register(listener.active, {each.address: each.port for each in admits})
        elif isinstance(change, Drain | Remove):
            self._deregister(listener.active, change.member)

    def _deregister(self, group: Group, member: Member) -> None:
        """Take a target out, but not the last one that serves while others are about to.

        Raises:
            BusyError: those are not healthy yet.
        """
        health = [each.health for each in map(member_of, group.targets) if each.id != member.id]
        if member.health == "healthy" and "healthy" not in health and "initial" in health:
            raise BusyError(
                f"{member.address or member.id} stays until another target is healthy",
                "do the others answer? Run the same command again",
            )
        address, _, port = member.id.rpartition(":")
        gone = [{"Id": address, "Port": int(port)}]
        self._api.send("deregister_targets", TargetGroupArn=group.arn, Targets=gone)

    def _listener_now(self) -> Listener | None:
        listeners = self._api.ask("describe_listeners", LoadBalancerArn=self._arn)["Listeners"]
        for each in listeners:
            if each["Port"] == TLS:
                return Listener(each, [self._group(*share) for share in Listener.shares(each)])
        return None

    def _group(self, arn: str, weight: int) -> Group:
        found = self._api.ask("describe_target_groups", TargetGroupArns=[arn])["TargetGroups"][0]
        return self._whole(found, weight)

    def _whole(self, found: Mapping[str, Any], weight: int = 0) -> Group:
        arn = found["TargetGroupArn"]
        told = self._api.ask("describe_target_group_attributes", TargetGroupArn=arn)["Attributes"]
        health = self._api.ask("describe_target_health", TargetGroupArn=arn)
        return Group(
            found,
            weight,
            {each["Key"]: each.get("Value", "") for each in told},
            self._tags(arn),
            health["TargetHealthDescriptions"],
        )

    def _tags(self, arn: str) -> dict[str, str]:
        found = self._api.ask("describe_tags", ResourceArns=[arn])["TagDescriptions"]
        return {tag["Key"]: tag.get("Value", "") for each in found for tag in each["Tags"]}

    def _set(self, rule: Rule, addresses: Sequence[str]) -> None:
        if rule.check and rule.check.protocol != "tcp":
            raise ManagedError(
                "the check of a target group sends PROXY headers too", "check by tcp"
            )
        listener = self._listener
        group = self._fitting(rule)
        # Without a listener nobody is served: then members are registered by a call of their own,
        # so that it is known by its name whom the API refuses.
        has = addresses_of(listener.active if listener else group)
        stay = [*has, *addresses] if listener else [each for each in has if each in addresses]
        self._fill(group, dict.fromkeys(stay, rule.port))
        to = {"Type": "forward", "TargetGroupArn": group.arn}
        if listener is None:
            self._api.send(
                "create_listener", LoadBalancerArn=self._arn, Protocol="TCP", Port=TLS,
                DefaultActions=[to],
            )  # fmt: skip
            return
        if listener.protocol == "TCP":
            self._ready(listener, group)
        if listener.protocol != "TCP" or [each.arn for each in listener.groups] != [group.arn]:
            self._api.send(
                "modify_listener", ListenerArn=listener.arn, Protocol="TCP", Port=TLS,
                DefaultActions=[to],
            )  # fmt: skip

    def _fitting(self, rule: Rule) -> Group:
        """Return our target group for a rule, as it has to be; it is made if need be."""
        digest = sha256(self._arn.encode()).hexdigest()[:8]
        name = "-".join(filter(None, ["certsync", digest, str(rule.port), rule.proxy]))
        try:
            found = self._api.ask("describe_target_groups", Names=[name])["TargetGroups"][0]
        except NoSuchError:
            found = self._api.send(
                "create_target_group", Name=name, Protocol="TCP", Port=rule.port, VpcId=self._vpc,
                TargetType="ip", Tags=[{"Key": TAG, "Value": self._arn}], **CHECK,
            )["TargetGroups"][0]  # fmt: skip
        group = self._whole(found)
        if not group.is_of(self._arn) or group.of["TargetType"] != "ip":
            raise ManagedError(
                f"there is a target group {name} that certsync has not made for this balancer",
                HINTS["DuplicateTargetGroupName"],
            )
        if any(
            found.get(each) != CHECK[each] for each in ("HealthCheckProtocol", "HealthCheckPort")
        ):
            self._api.send("modify_target_group", TargetGroupArn=group.arn, **CHECK)
        wanted = {"proxy_protocol_v2.enabled": str(bool(rule.proxy)).lower()}
        wanted["stickiness.enabled"] = "false"
        if rule.proxy:
            # Else the source would be the client, and our PROXY port answers balancers alone.
            wanted["preserve_client_ip.enabled"] = "false"
        usual = {"proxy_protocol_v2.enabled": "false", "stickiness.enabled": "false"}
        has = {**usual, **group.attributes}
        if wrong := {key: value for key, value in wanted.items() if has.get(key) != value}:
            self._api.send(
                "modify_target_group_attributes", TargetGroupArn=group.arn,
                Attributes=[{"Key": key, "Value": value} for key, value in wrong.items()],
            )  # fmt: skip
        return group

    def _fill(self, group: Group, wanted: Mapping[str, int]) -> None:
        """Give a group these members and no others."""
        there = {(each["Target"]["Id"], each["Target"]["Port"]) for each in group.targets}
        self._register(group, {a: port for a, port in wanted.items() if (a, port) not in there})
        if gone := there - set(wanted.items()):
            targets = [{"Id": address, "Port": port} for address, port in sorted(gone)]
            self._api.send("deregister_targets", TargetGroupArn=group.arn, Targets=targets)

    def _register(self, group: Group, members: Mapping[str, int]) -> None:
        if members:
            targets = [{"Id": address, "Port": port} for address, port in members.items()]
            self._api.send("register_targets", TargetGroupArn=group.arn, Targets=targets)

    def _ready(self, listener: Listener, group: Group) -> None:
        """Refuse to move before whoever is healthy in the group that serves is so in the next one.

        A group is checked only while a listener has it: so it gets a share of nothing first (the
        guide, "Listeners", weighted target groups; that a group is checked at weight 0 is said for
        groups in general, not for that weight [?]).

        Raises:
            BusyError: they are not yet.
        """
        active = listener.active
        needed = set(addresses_of(active, "healthy", "initial"))
        if not needed or active.arn == group.arn:
            return
        if group.arn not in {each.arn for each in listener.groups}:
            shares = [
                {"TargetGroupArn": each.arn, "Weight": each.weight} for each in listener.groups
            ]
            shares.append({"TargetGroupArn": group.arn, "Weight": 0})
            action = {"Type": "forward", "ForwardConfig": {"TargetGroups": shares}}
            self._api.send("modify_listener", ListenerArn=listener.arn, DefaultActions=[action])
        now = self._group(group.arn, 0)
        if missing := needed - set(addresses_of(now, "healthy")):
            raise BusyError(
                f"{', '.join(sorted(missing))} not healthy yet in target group {now.name}",
                "does it answer there? Run the same command again",
            )

"""A load balancer (LBU) of Outscale as a balancer of certsync: its listener of port 443.

All listeners have the same instances and the same check. It is driven by the API that is like AWS'
of 2012, as Outscale's own has no PROXY protocol (terraform-provider-outscale#365). Sources: that
API's model in botocore 1.44, and docs.outscale.com; what only issues tell has its source beside it;
[?] is what nobody documents. Nothing here was tried with a real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from certsync.operator.balancer.managed.aws_api import Access, Service
from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.outscale_form import HINTS, RIGHTS, VARIABLES
from certsync.operator.balancer.managed.port import (
    NO_PORT,
    Ability,
    Admit,
    Change,
    Check,
    DropRule,
    Member,
    Remove,
    Rule,
    SetCheck,
    SetRule,
    State,
)
from certsync.system.terminal import harmless

TLS = 443
POLICY, POLICY_TYPE = "certsync-proxy", "ProxyProtocolPolicyType"
GAP_SECONDS = 30
"""How long port 443 may be closed while its listener is made anew. It cannot be changed (the guide,
"Adding or deleting listeners"); how long that takes stands nowhere [?]."""

CLUSTER = re.compile(r"OscK8s.*|(.*\.)?kubernetes\.io/.*")
"""Tags of Outscale's cloud controller for Kubernetes (cloud-provider-osc)."""

REGION = re.compile(r"[a-z0-9-]+")


def connect(balancer: str, environment: Mapping[str, str]) -> OutscaleBalancer:
    """Return a load balancer by its name.

    ``environment`` has the region and the keys, or boto3 finds the keys itself; OSC_ENDPOINT_LBU
    and OSC_ENDPOINT_FCU say if the APIs are somewhere else.

    Raises:
        ManagedError: there is no region, or no such profile.
    """
    names = ("OSC_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")
    region = next((environment[each] for each in names if environment.get(each)), "")
    if not REGION.fullmatch(region):
        raise ManagedError("Outscale: OSC_REGION has no region", "export OSC_REGION=eu-west-2")
    own: dict[str, str | None] = {}
    for prefix, key, secret in (("OSC", "ACCESS_KEY", "SECRET_KEY"),
                                ("AWS", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")):  # fmt: skip
        if not own and environment.get(f"{prefix}_{key}"):
            own = {
                "aws_access_key_id": environment[f"{prefix}_{key}"],
                "aws_secret_access_key": environment.get(f"{prefix}_{secret}") or "none",
            }
    if not own and environment.get("AWS_PROFILE"):
        own = {"profile_name": environment["AWS_PROFILE"]}
    access = Access("Outscale", VARIABLES, RIGHTS, HINTS, own)
    lbu = environment.get("OSC_ENDPOINT_LBU") or f"https://lbu.{region}.outscale.com"
    fcu = environment.get("OSC_ENDPOINT_FCU") or f"https://fcu.{region}.outscale.com"
    return OutscaleBalancer(
        Service(access, "elb", region, lbu), Service(access, "ec2", region, fcu), balancer
    )


class OutscaleBalancer:
    """One load balancer."""

    # Whether the check sends a PROXY header too is documented nowhere [?]: on port 443 it must not.
    # Nor is it told when one that was removed gets no connections any more [?].
    ability = Ability(
        shared_pool=True, drains=False, proxy=("v1",), checks_tls=True, gap_seconds=GAP_SECONDS,
        unseen_seconds=20,
    )  # fmt: skip

    def __init__(self, lbu: Service, fcu: Service, name: str) -> None:
        """``name``: the load balancer's, which is its identifier."""
        self._api = lbu
        self._machines = fcu
        self._name = name
        self._balancer: Mapping[str, Any] = {}

    def read(self) -> State:
        """Return what port 443 has, and all instances."""
        name = self._name
        try:
            found = self._api.ask("describe_load_balancers", LoadBalancerNames=[name])
            self._balancer = balancer = found["LoadBalancerDescriptions"][0]
            numbers = [each["InstanceId"] for each in balancer["Instances"]]
            health = self._health() if numbers else {}
            addresses = self._addresses(InstanceIds=numbers) if numbers else {}
            told = self._api.ask("describe_tags", LoadBalancerNames=[name])["TagDescriptions"]
            marks = [tag["Key"] for each in told for tag in each["Tags"]]
            return State(
                self._rule(),
                tuple(
                    Member(addresses.get(each, ""), harmless(each), health=health.get(each, ""))
                    for each in numbers
                ),
                objections=tuple(self._objections()),
                check=self._check(),
                obstacles=tuple(
                    f"a Kubernetes cluster drives this load balancer ({harmless(each)})"
                    for each in marks
                    if CLUSTER.fullmatch(each)
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ManagedError(
                f"Outscale answers in a form that this version does not know ({error!r})",
                "is there a newer certsync, or a newer boto3?",
            ) from None

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:
        """Return which backends are no VMs of the load balancer's Net."""
        return self._numbers(backends)[1]

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first change to what was read last; members that come at once, by one call."""
        change = changes[0]
        if isinstance(change, SetRule):
            self._set(change.rule)
        elif isinstance(change, DropRule):
            self._send("delete_load_balancer_listeners", LoadBalancerPorts=[TLS])
        elif isinstance(change, SetCheck):
            self._send("configure_health_check", HealthCheck=self._checking(change.check, TLS))
        elif isinstance(change, Admit):
            new = {each.name: each.address for each in changes if isinstance(each, Admit)}
            numbers, missing = self._numbers(new)
            if change.name in missing:
                hint = "is private_address in the fleet file right?"
                raise ManagedError(f"{change.name}: {missing[change.name]}", hint)
            instances = [{"InstanceId": each} for each in numbers.values()]
            self._send("register_instances_with_load_balancer", Instances=instances)
        elif isinstance(change, Remove):
            gone = [{"InstanceId": change.member.id}]
            self._send("deregister_instances_from_load_balancer", Instances=gone)
        else:
            raise ManagedError("Outscale's load balancers cannot drain an instance", "remove it")

    def _send(self, operation: str, **arguments: Any) -> Any:
        return self._api.send(operation, LoadBalancerName=self._name, **arguments)

    def _health(self) -> dict[str, str]:
        found = self._api.ask("describe_instance_health", LoadBalancerName=self._name)
        return {each["InstanceId"]: harmless(each["State"]) for each in found["InstanceStates"]}

    def _addresses(self, **which: Any) -> dict[str, str]:
        """Return the private address of each VM, by its id."""
        found = self._machines.ask("describe_instances", **which)["Reservations"]
        return {
            each["InstanceId"]: str(ip_address(each["PrivateIpAddress"]))
            for group in found
            for each in group["Instances"]
            if each.get("PrivateIpAddress")
        }

    def _numbers(self, backends: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the VM of each backend, and why some have none, by name."""
        filters = [{"Name": "private-ip-address", "Values": sorted(set(backends.values()))}]
        if self._balancer.get("VPCId"):
            filters.append({"Name": "vpc-id", "Values": [self._balancer["VPCId"]]})
        found = self._addresses(Filters=filters) if backends else {}
        numbers, missing = {}, {}
        for name, address in backends.items():
            here = [number for number, of in found.items() if of == str(ip_address(address))]
            many = "several VMs have" if here else "no VM in the load balancer's Net has"
            if len(here) == 1:
                numbers[name] = here[0]
            else:
                missing[name] = f"{many} the private address {address}"
        return numbers, missing

    def _listener(self) -> Mapping[str, Any] | None:
        for each in self._balancer["ListenerDescriptions"]:
            if each["Listener"]["LoadBalancerPort"] == TLS:
                found: Mapping[str, Any] = each["Listener"]
                return found
        return None

    def _policies(self, port: int) -> list[str]:
        """Return the policies of a port of the instances."""
        for each in self._balancer.get("BackendServerDescriptions", ()):
            if each["InstancePort"] == port:
                return list(each.get("PolicyNames", ()))
        return []

    def _proxies(self) -> set[str]:
        """Return the policies that send the PROXY protocol; the balancer names all of its own."""
        names = self._balancer.get("Policies", {}).get("OtherPolicies", [])
        if not names:
            return set()
        found = self._api.ask(
            "describe_load_balancer_policies", LoadBalancerName=self._name, PolicyNames=names
        )["PolicyDescriptions"]
        on = {"AttributeName": "ProxyProtocol", "AttributeValue": "true"}
        return {
            each["PolicyName"]
            for each in found
            if each["PolicyTypeName"] == POLICY_TYPE and on in each["PolicyAttributeDescriptions"]
        }

    def _rule(self) -> Rule | None:
        listener = self._listener()
        if listener is None:
            return None
        port = int(listener["InstancePort"])
        sends = bool(self._proxies() & set(self._policies(port)))
        return Rule(port, "v1" if sends else "", self._check(), tuple(_opened(listener)))

    def _check(self) -> Check | None:
        target = self._balancer.get("HealthCheck", {}).get("Target", "")
        found = re.fullmatch(r"(\w+):(\d+)(/.*)?", target)
        if not found:
            return None
        return Check(found[1].lower(), int(found[2]), harmless(found[3] or ""))

    def _objections(self) -> Iterator[str]:
        listener = self._listener()
        if listener is None:
            return
        yield from _opened(listener)
        if not self._policies(int(listener["InstancePort"])):
            return
        for each in self._balancer["ListenerDescriptions"]:
            other = each["Listener"]
            if other is not listener and other["InstancePort"] == listener["InstancePort"]:
                yield (
                    f"port {other['LoadBalancerPort']} sends to port {other['InstancePort']} too, "
                    "and so has the same PROXY protocol"
                )

    def _set(self, rule: Rule) -> None:
        """Put the policy and the check in place, then the listener: it never sends without them."""
        has = self._listener()
        proxies = self._proxies()
        if rule.proxy and POLICY not in proxies:
            self._send(
                "create_load_balancer_policy", PolicyName=POLICY, PolicyTypeName=POLICY_TYPE,
                PolicyAttributes=[{"AttributeName": "ProxyProtocol", "AttributeValue": "true"}],
            )  # fmt: skip
        # The call replaces the whole set. That a port may have policies before a listener sends to
        # it stands nowhere [?].
        policies = self._policies(rule.port)
        wanted = [each for each in policies if each not in proxies]
        if rule.proxy:
            wanted.append(POLICY)
        if set(wanted) != set(policies):
            self._send(
                "set_load_balancer_policies_for_backend_server", InstancePort=rule.port,
                PolicyNames=wanted,
            )  # fmt: skip
        if rule.check and rule.check != self._check():
            self._send("configure_health_check", HealthCheck=self._checking(rule.check, rule.port))
        if has and (int(has["InstancePort"]) != rule.port or list(_opened(has))):
            self._send("delete_load_balancer_listeners", LoadBalancerPorts=[TLS])
            has = None
        if has is None:
            listener = {
                "Protocol": "TCP", "LoadBalancerPort": TLS, "InstanceProtocol": "TCP",
                "InstancePort": rule.port,
            }  # fmt: skip
            self._send("create_load_balancer_listeners", Listeners=[listener])

    def _checking(self, check: Check, port: int) -> dict[str, Any]:
        """Return the check with what it has besides; all of it is required."""
        usual = {"Interval": 10, "Timeout": 5, "UnhealthyThreshold": 2, "HealthyThreshold": 2}
        old = self._balancer.get("HealthCheck", {})
        kept = {name: old.get(name) or value for name, value in usual.items()}
        place = check.port if check.port != NO_PORT else port
        return {**kept, "Target": f"{check.protocol.upper()}:{place}{check.path}"}


def _opened(listener: Mapping[str, Any]) -> Iterator[str]:
    """Give in words why a listener does not pass TLS through."""
    protocol = harmless(str(listener["Protocol"]))
    inner = harmless(str(listener.get("InstanceProtocol") or protocol))
    if (protocol, inner) != ("TCP", "TCP"):
        yield f"port 443 has protocol {protocol} to {inner}: TLS is not passed through"

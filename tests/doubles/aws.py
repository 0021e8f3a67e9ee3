"""AWS' API for Network Load Balancers: moto, and what it does not know.

Sources: AWS' guide to Network Load Balancers, and the API reference; [?] is what nobody documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.doubles.layer import Denied, Form, Layer, Told

ATTRIBUTES = {
    "deregistration_delay.timeout_seconds": r"\d{1,4}",
    "deregistration_delay.connection_termination.enabled": "true|false",
    "preserve_client_ip.enabled": "true|false",
    "proxy_protocol_v2.enabled": "true|false",
    "stickiness.enabled": "true|false",
    "stickiness.type": "source_ip",
}
"""What a target group of a Network Load Balancer has (API reference, TargetGroupAttribute)."""

DELAY = 300.0
"""The usual deregistration delay in seconds."""

Place = tuple[str, str, int]
"""A target group, a target's id and its port."""


class Aws(Layer):
    """An account with Network Load Balancers."""

    def __init__(self, moto: str, now: Callable[[], float]) -> None:
        super().__init__(moto, now)
        self.seconds = 0.0
        """How long a target is `initial` once its group is in use."""

        self.sick: set[str] = set()
        """Addresses of which checks say `unhealthy`."""

        self.checked: dict[str, str] | None = None
        """What checks say of targets in use, by `address:port`; of others `initial`. None: what the
        clock and `sick` say."""

        self.since: dict[Place, float] = {}
        self.leaving: dict[Place, float] = {}
        self.used: dict[str, float] = {}
        self._elb = self.client("elbv2")

    @property
    def state(self) -> Any:
        """Return all load balancers with listeners, target groups, and who is being drained."""
        now = self.now()
        return {
            **super().state,
            "draining": [list(place) for place, until in self.leaving.items() if now < until],
        }

    def found(self) -> Any:
        """Ask moto for its state."""
        ask = self._elb
        balancers = ask.describe_load_balancers()["LoadBalancers"]
        arns = [each["LoadBalancerArn"] for each in balancers]
        groups = {
            each["TargetGroupArn"]: each for each in ask.describe_target_groups()["TargetGroups"]
        }
        for arn, group in groups.items():
            told = ask.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            health = ask.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
            # Which load balancers have it follows from their listeners.
            del group["LoadBalancerArns"]
            group["Attributes"] = {each["Key"]: each["Value"] for each in told}
            group["Targets"] = [each["Target"] for each in health]
        return {
            "balancers": balancers,
            "listeners": {
                str(each["Port"]): each
                for arn in arns
                for each in ask.describe_listeners(LoadBalancerArn=arn)["Listeners"]
            },
            "groups": groups,
        }

    def before(self, action: str, form: Form) -> None:
        # moto takes any name, and any value.
        if action == "ModifyTargetGroupAttributes":
            for key, value in _pairs(form, "Attributes.member", "Key", "Value"):
                if not re.fullmatch(ATTRIBUTES.get(key, "(?!)"), value):
                    raise Denied("InvalidConfigurationRequest", f"{key} = {value}")
        # moto lets a second listener have the port of the first.
        if action == "CreateListener":
            there = self._elb.describe_listeners(LoadBalancerArn=form["LoadBalancerArn"])
            if form["Port"] in {str(each["Port"]) for each in there["Listeners"]}:
                raise Denied("DuplicateListener", "a listener with this port exists already")
        if action == "RegisterTargets":
            for address, _ in _pairs(form, "Targets.member", "Id", "Port"):
                if not _is_inside(address):
                    raise Denied("InvalidTarget", f"{address} is not within the VPC")

    def after(self, action: str, form: Form) -> None:
        group = form.get("TargetGroupArn", "")
        for address, port in _pairs(form, "Targets.member", "Id", "Port"):
            place = (group, address, int(port))
            if action == "RegisterTargets":
                self.since[place] = self.now()
                self.leaving.pop(place, None)
            elif self.since.pop(place, None) is not None:
                self.leaving[place] = self.now() + DELAY
        if action.endswith("Listener"):
            self.look()

    def look(self) -> None:
        """See which target groups are in use."""
        now: set[str] = set()
        for balancer in self._elb.describe_load_balancers()["LoadBalancers"]:
            found = self._elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])
            for listener in found["Listeners"]:
                for action in listener["DefaultActions"]:
                    shares = action.get("ForwardConfig", {}).get("TargetGroups", [action])
                    now |= {each["TargetGroupArn"] for each in shares}
        self.used = {each: self.used.get(each, self.now()) for each in now}

    def instead(self, action: str, form: Form, told: Told) -> Told:
        if action != "DescribeTargetHealth":
            return told
        group = form["TargetGroupArn"]
        found = re.sub(r' xmlns="[^"]+"', "", told.body.decode())
        states: list[tuple[str, int, str]] = []
        for each in ET.fromstring(found).iter("Target"):
            address, port = each.findtext("Id", ""), int(each.findtext("Port", "0"))
            states.append((address, port, self._state((group, address, port))))
        states += [
            (place[1], place[2], "draining")
            for place, until in self.leaving.items()
            if place[0] == group and self.now() < until
        ]
        members = "".join(
            f"<member><Target><Id>{escape(address)}</Id><Port>{port}</Port></Target>"
            f"<TargetHealth><State>{state}</State></TargetHealth></member>"
            for address, port, state in states
        )
        body = (
            "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions>"
            f"{members}</TargetHealthDescriptions></DescribeTargetHealthResult>"
            "</DescribeTargetHealthResponse>"
        )
        return Told(200, body.encode(), {})

    def _state(self, place: Place) -> str:
        # "unused: the target group is not used in a listener rule" (the guide, "Target health
        # status"); moto says `healthy` at once.
        if place[0] not in self.used:
            return "unused"
        if self.checked is not None:
            return self.checked.get(f"{place[1]}:{place[2]}", "initial")
        since = max(self.since.get(place, 0.0), self.used[place[0]])
        if self.now() < since + self.seconds:
            return "initial"
        return "unhealthy" if place[1] in self.sick else "healthy"


def _pairs(form: Form, prefix: str, *names: str) -> list[tuple[str, Any]]:
    numbers = [re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.{names[0]}", each) for each in form]
    keys = [f"{prefix}.{each[1]}" for each in numbers if each]
    return [(form[f"{key}.{names[0]}"], form.get(f"{key}.{names[1]}", "")) for key in keys]


def _is_inside(address: str) -> bool:
    try:
        return ip_address(address).is_private
    except ValueError:
        return False

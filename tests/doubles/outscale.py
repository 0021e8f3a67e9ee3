"""Outscale's API for load balancers that is like AWS' of 2012: moto, and what it does not know.

Sources: AWS' API reference of 2012-06-01, with which Outscale says to comply; docs.outscale.com;
[?] is what nobody documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.doubles.layer import Denied, Form, Layer, Told

POLICIES = {"ProxyProtocolPolicyType": {"ProxyProtocol": "true|false"}}
"""Types of policies and their attributes (docs.outscale.com, "Configuring Proxy Protocol")."""


class Outscale(Layer):
    """An account with load balancers."""

    def __init__(self, moto: str, now: Callable[[], float]) -> None:
        super().__init__(moto, now)
        self.policies: dict[tuple[str, int], list[str]] = {}
        """What the ports of instances have: by load balancer and port."""

        self.out: set[str] = set()
        """Instances that are out of service."""

        self.moments: list[tuple[str, int, bool]] = []
        """After each change: whether port 443 sends, to which port, and with the PROXY protocol."""

        self._elb = self.client("elb")

    @property
    def state(self) -> Any:
        """Return load balancers, and the addresses of instances; moto loses policies of ports."""
        ports = {f"{name}:{port}": [*policies] for (name, port), policies in self.policies.items()}
        return {**super().state, "ports": ports}

    def found(self) -> Any:
        """Ask moto for its state."""
        balancers = self._elb.describe_load_balancers()["LoadBalancerDescriptions"]
        for each in balancers:
            del each["BackendServerDescriptions"]
        told = self.client("ec2").describe_instances()["Reservations"]
        instances = [each for group in told for each in group["Instances"]]
        return {
            "balancers": {each["LoadBalancerName"]: each for each in balancers},
            "addresses": {each["InstanceId"]: each["PrivateIpAddress"] for each in instances},
        }

    def before(self, action: str, form: Form) -> None:
        name = form.get("LoadBalancerName", "")
        if action == "CreateLoadBalancerPolicy":
            self._right_policy(name, form)
        if action == "SetLoadBalancerPoliciesForBackendServer":
            wanted = _listed(form, "PolicyNames.member")
            if missing := set(wanted) - set(self._own(name)):
                raise Denied("PolicyNotFound", f"there is no policy {sorted(missing)}")
        if action == "CreateLoadBalancerListeners":
            prefix = "Listeners.member.1"
            for each in self.listeners(name):
                # "A listener already exists ... but with a different instance port, protocol"
                # (API reference, DuplicateListener).
                if str(each["LoadBalancerPort"]) == form[f"{prefix}.LoadBalancerPort"]:
                    raise Denied("DuplicateListener", "a listener exists for this port")

    def _right_policy(self, name: str, form: Form) -> None:
        attributes = POLICIES.get(form["PolicyTypeName"])
        if attributes is None:
            raise Denied("PolicyTypeNotFound", form["PolicyTypeName"])
        if form["PolicyName"] in self._own(name):
            raise Denied("DuplicatePolicyName", "a policy of this name exists")
        prefix = "PolicyAttributes.member.1"
        pattern = attributes.get(form.get(f"{prefix}.AttributeName", ""), "(?!)")
        if not re.fullmatch(pattern, form.get(f"{prefix}.AttributeValue", "")):
            raise Denied("InvalidConfigurationRequest", "the policy's attributes are wrong")

    def _own(self, name: str) -> list[str]:
        found = self._elb.describe_load_balancers(LoadBalancerNames=[name])
        return list(found["LoadBalancerDescriptions"][0]["Policies"]["OtherPolicies"])

    def listeners(self, name: str) -> list[dict[str, int]]:
        """Return the listeners of a load balancer."""
        found = self._elb.describe_load_balancers(LoadBalancerNames=[name])
        told = found["LoadBalancerDescriptions"][0]["ListenerDescriptions"]
        return [each["Listener"] for each in told]

    def after(self, action: str, form: Form) -> None:
        name = form.get("LoadBalancerName", "")
        if action == "SetLoadBalancerPoliciesForBackendServer":
            # "Replaces the set of policies"; moto forgets it where no listener sends to the port.
            place = (name, int(form["InstancePort"]))
            self.policies[place] = _listed(form, "PolicyNames.member")
        if not action.startswith(self.reading):
            for each in self.listeners(name):
                if each["LoadBalancerPort"] == 443:
                    port = each["InstancePort"]
                    self.moments.append((name, port, bool(self.policies.get((name, port)))))
                    break
            else:
                self.moments.append((name, 0, False))

    def instead(self, action: str, form: Form, told: Told) -> Told:
        text = told.body.decode()
        if action == "DescribeLoadBalancers":
            members = "".join(
                f"<member><InstancePort>{port}</InstancePort><PolicyNames>"
                + "".join(f"<member>{each}</member>" for each in names)
                + "</PolicyNames></member>"
                for (name, port), names in self.policies.items()
                if name == form.get("LoadBalancerNames.member.1")
            )
            made = f"<BackendServerDescriptions>{members}</BackendServerDescriptions>"
            empty = r"<BackendServerDescriptions\s*/>"
            full = r"<BackendServerDescriptions>.*?</BackendServerDescriptions>"
            text, count = re.subn(f"{full}|{empty}", made, text, flags=re.DOTALL)
            assert count, text
        if action == "DescribeInstanceHealth":
            for each in self.out:
                text = re.sub(rf"({each}</InstanceId>\s*<State>)InService", r"\1OutOfService", text)
        return Told(told.status, text.encode(), told.headers)


def _listed(form: Form, prefix: str) -> list[str]:
    return [value for name, value in form.items() if name.startswith(f"{prefix}.")]

"""DigitalOcean's double with a clock, and certsync that drives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.digitalocean import DigitalOcean, api
from certsync.operator.balancer.managed.drive import Clock, Leave, drive
from certsync.operator.balancer.managed.port import Check, Rule
from tests.doubles import digitalocean as double
from tests.doubles.contract import differences, serve

TOKEN = "dop_v1_5ecret"
ADDRESSES = {f"backend-{n:02}": f"10.0.0.{n}" for n in range(1, 13)}
RULE = Rule(443, check=Check("https", 443, "/"))
OURS_ON_TLS = {
    "entry_protocol": "https", "entry_port": 443, "target_protocol": "https", "target_port": 443,
    "tls_passthrough": True,
}  # fmt: skip
TERMINATED = {**OURS_ON_TLS, "tls_passthrough": False, "certificate_id": "892071a0"}
OURS = {
    "balancer.forwarding_rules", "balancer.droplet_ids", "balancer.health_check.protocol",
    "balancer.health_check.port", "balancer.health_check.path",
}  # fmt: skip
SECONDS = 120


class Cloud:
    """The double, its clock, and what drives it."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.told: list[str] = []
        self.double = double.DigitalOcean(TOKEN, lambda: self.time, takes=4)
        self.double.state["droplets"] = [
            double.droplet(100 + n, address) for n, address in enumerate(ADDRESSES.values(), 1)
        ]
        self.base = ""

    @property
    def balancer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.double.state["balancer"]
        return found

    @property
    def provider(self) -> DigitalOcean:
        return DigitalOcean(api(TOKEN, self.base), double.BALANCER)

    def drive(self, count: int, rule: Rule | None = RULE, *, adopt: bool = False) -> None:
        """Drive it to the first backends."""
        members = dict(list(ADDRESSES.items())[:count])
        self.drive_to(Wanted(rule, members, ADDRESSES), adopt=adopt)

    def drive_to(self, wanted: Wanted, *, adopt: bool = False) -> None:
        clock = Clock(lambda: self.time, self._sleep)
        drive(self.provider, wanted, self.told.append, clock, SECONDS, Leave(adopt=adopt))

    def have(self, **changes: Any) -> None:
        """Have another load balancer there."""
        self.double.state["balancer"] = double.balancer(**changes)

    def ready(self, count: int) -> None:
        """Bring it to where it takes traffic, and forget how."""
        self.drive(count)
        self.time += SECONDS
        self.double.calls.clear()
        self.told.clear()

    def _sleep(self, seconds: float) -> None:
        self.time += seconds


@contextmanager
def running() -> Iterator[Cloud]:
    """Run it while the block lasts."""
    made = Cloud()
    with serve(made.double) as made.base:
        yield made
    assert made.double.refused == [], "certsync has sent what the schema does not allow"


def foreign(before: Mapping[str, Any], cloud: Cloud) -> dict[str, Any]:
    """Return what has changed that is not ours, and of the rules all but port 443's."""
    found = differences(before, cloud.double.state)
    rules = [
        [each for each in state["balancer"]["forwarding_rules"] if each["entry_port"] != 443]
        for state in (before, cloud.double.state)
    ]
    strange: dict[str, Any] = {place: found[place] for place in found.keys() - OURS}
    return strange if rules[0] == rules[1] else {**strange, "rules": rules}

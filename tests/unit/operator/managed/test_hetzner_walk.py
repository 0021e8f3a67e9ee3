"""On the way from any state to any other, through any fault, Hetzner's balancer serves rightly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from certsync.operator.balancer.managed import hetzner
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import Clock, drive
from certsync.operator.balancer.managed.hetzner import HetznerBalancer
from certsync.operator.balancer.managed.port import Check, Rule
from tests.doubles.contract import Answer, Fault, serve
from tests.doubles.hetzner import Hetzner

FLEET = {f"web-{each}": f"10.0.0.1{each}" for each in range(1, 6)}
RULES = [Rule(443), Rule(8443, "v2"), Rule(443, check=Check("https", 443, "/up"))]
CALLS = ["POST */*_service", "POST */*_target", "GET /servers", "GET /actions/*", "GET */actions"]
ROUNDS = 15


@dataclass(frozen=True)
class Served:
    """What port 443 has at one moment."""

    rule: tuple[int, bool] | None
    """The target port, and whether with the PROXY protocol; None: closed."""

    servers: frozenset[int]


@dataclass
class Watched:
    """A double that keeps what the balancer has after each call."""

    api: Hetzner
    number: int
    moments: list[Served] = field(default_factory=list)

    def watch(self) -> None:
        take = self.api.take

        def watched(
            method: str, target: str, headers: Mapping[str, str], content: bytes
        ) -> Answer | None:
            answer = take(method, target, headers, content)
            self.moments.append(self.now())
            return answer

        self.api.take = watched  # type: ignore[method-assign]  # to look after each call

    def now(self) -> Served:
        balancer = self.api.state["balancers"][str(self.number)]
        rule = None
        for each in balancer["services"]:
            if each["listen_port"] == 443:
                rule = (each["destination_port"], each["proxyprotocol"])
        return Served(rule, frozenset(each["server"]["id"] for each in balancer["targets"]))


def some(random: Random, names: list[str], least: int = 0) -> list[str]:
    return random.sample(names, random.randint(least, len(names)))


def start(random: Random, api: Hetzner, number: int, servers: Mapping[str, int]) -> None:
    """Give the balancer what some earlier command has left."""
    for name in some(random, list(FLEET)):
        api.target(number, type="server", server={"id": servers[name]}, use_private_ip=True)
    if random.random() < 0.7 and api.state["balancers"][str(number)]["targets"]:
        rule = random.choice(RULES)
        api.service(number, 443, destination_port=rule.port, proxyprotocol=bool(rule.proxy))


def faults(random: Random) -> Iterator[Fault]:
    for _ in range(random.randint(0, 3)):
        on, passing = random.choice(CALLS), random.randint(1, 3)
        kind: dict[str, Any] = random.choice(
            [{"status": 500}, {"status": 504, "carried_out": True}, {"cut": True}, {"status": 409},
             {"status": 423}, {"status": 429, "headers": {"Retry-After": "5"}}]
        )  # fmt: skip
        yield Fault(on, passing=passing, **kind)


@pytest.mark.parametrize("seed", range(10))
def test_it_serves_all_the_way(seed: int) -> None:
    random, time = Random(seed), [0.0]

    def sleep(seconds: float) -> None:
        time[0] += seconds

    for _ in range(ROUNDS):
        api = Hetzner(lambda: time[0])
        number = api.balancer()
        servers = {name: api.server(address) for name, address in FLEET.items()}
        start(random, api, number, servers)
        api.seconds = random.choice([0, 0, 0.5, 3])
        rule = random.choice([*RULES, None])
        names = some(random, list(FLEET), 1)
        wanted, watched = (
            Wanted(rule, {each: FLEET[each] for each in names}, FLEET),
            Watched(api, number),
        )
        before, api.faults = watched.now(), list(faults(random))
        watched.watch()
        with serve(api) as base:
            provider = HetznerBalancer(hetzner.api(api.token, base), number, sleep)
            drive(provider, wanted, lambda _: None, Clock(lambda: time[0], sleep), 600)
        right(before, watched.moments, wanted, {servers[each] for each in names})
        assert api.refused == []


def right(before: Served, moments: list[Served], wanted: Wanted, proven: set[int]) -> None:
    """Check each moment, and the end."""
    for each in moments:
        assert each.rule in (None, (443, False), (8443, True)), "backends refuse that"
        assert each.servers <= before.servers | proven, "it was not proven"
        if each.rule:
            assert each.servers, "nobody answers any more"
        if before.rule is None and each.rule:
            assert each.servers <= proven, "it opened with somebody else behind it"
    if before.rule and wanted.rule:
        assert all(each.rule for each in moments), "port 443 was closed for a while"
    assert moments[-1].servers == proven
    rule = wanted.rule
    assert moments[-1].rule == ((rule.port, bool(rule.proxy)) if rule else None)

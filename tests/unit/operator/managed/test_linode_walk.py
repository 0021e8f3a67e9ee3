"""On the way from any state to any other, through any fault, a NodeBalancer serves rightly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from certsync.operator.balancer.managed import linode
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import Clock, drive
from certsync.operator.balancer.managed.linode import NodeBalancer
from certsync.operator.balancer.managed.port import Rule
from tests.doubles.contract import Answer, Fault, serve
from tests.doubles.linode import Linode

FLEET = {f"web-{each}": f"192.168.1.{each}" for each in range(1, 6)}
RULES = [Rule(443), Rule(8443, "v1"), Rule(8443, "v2")]
CALLS = ["POST */configs", "POST */nodes", "PUT *", "DELETE *", "POST */rebuild", "GET */nodes"]
ROUNDS = 15


@dataclass(frozen=True)
class Served:
    """What port 443 has at one moment."""

    proxy: str
    nodes: Mapping[str, str]
    """Address with port to mode."""

    @property
    def taking(self) -> set[str]:
        return {each for each, mode in self.nodes.items() if mode == "accept"}


@dataclass
class Watched:
    """A double that keeps what port 443 has after each call."""

    api: Linode
    moments: list[Served | None] = field(default_factory=list)

    def watch(self) -> None:
        take = self.api.take

        def watched(
            method: str, target: str, headers: Mapping[str, str], content: bytes
        ) -> Answer | None:
            answer = take(method, target, headers, content)
            self.moments.append(self.now())
            return answer

        self.api.take = watched  # type: ignore[method-assign]  # to look after each call

    def now(self) -> Served | None:
        for config in self.api.state["configs"].values():
            if config["port"] == 443:
                nodes = self.api.nodes_of(config["id"])
                modes = {each["address"]: each["mode"] for each in nodes}
                return Served(config["proxy_protocol"], modes)
        return None


def some(random: Random, names: list[str], least: int = 0) -> list[str]:
    return random.sample(names, random.randint(least, len(names)))


def start(random: Random, api: Linode, number: int) -> None:
    """Give port 443 what some earlier command has left."""
    if random.random() < 0.2:
        return
    rule = random.choice(RULES)
    config = api.config(
        number, port=443, protocol="tcp", check="connection", proxy_protocol=rule.proxy or "none"
    )
    for name in some(random, list(FLEET)):
        mode = random.choice(["accept", "accept", "drain", "reject"])
        api.node(config, f"{FLEET[name]}:{rule.port}", mode=mode)


def wish(random: Random) -> Wanted:
    rule = random.choice([*RULES, None])
    members = some(random, list(FLEET), 1)
    others = [each for each in FLEET if each not in members]
    draining = {each: FLEET[each] for each in some(random, others)}
    return Wanted(rule, {each: FLEET[each] for each in members}, FLEET, draining)


def faults(random: Random) -> Iterator[Fault]:
    for _ in range(random.randint(0, 3)):
        on, passing = random.choice(CALLS), random.randint(1, 3)
        kind: dict[str, Any] = random.choice(
            [{"status": 500}, {"status": 500, "carried_out": True}, {"cut": True}, {"status": 409},
             {"status": 429, "headers": {"Retry-After": "5"}}]
        )  # fmt: skip
        yield Fault(on, passing=passing, **kind)


@pytest.mark.parametrize("seed", range(10))
def test_it_serves_all_the_way(seed: int) -> None:
    random, time = Random(seed), [0.0]

    def sleep(seconds: float) -> None:
        time[0] += seconds

    for _ in range(ROUNDS):
        api = Linode(lambda: time[0])
        number = api.balancer()
        start(random, api, number)
        wanted, watched = wish(random), Watched(api)
        before, api.faults = watched.now(), list(faults(random))
        watched.watch()
        with serve(api) as base:
            provider = NodeBalancer(linode.api(api.token, f"{base}/v4"), number)
            clock = Clock(lambda: time[0], sleep)
            drive(provider, wanted, lambda _: None, clock, 600)
        right(before, watched.moments, wanted)
        assert (api.state["reloads"], api.refused) == (0, [])


def right(before: Served | None, moments: list[Served | None], wanted: Wanted) -> None:
    """Check each moment, and the end."""
    old = {each.rpartition(":")[0] for each in before.taking} if before else set()
    for each in moments:
        if each is None:
            continue
        ports = {address.rpartition(":")[2] for address in each.nodes}
        assert ports <= {"443" if each.proxy == "none" else "8443"}, "backends refuse that"
        taking = {address.rpartition(":")[0] for address in each.taking}
        assert taking <= old | set(wanted.members.values()), "it was not proven"
        assert taking or not old, "nobody answers any more"
    if old and wanted.rule:
        assert None not in moments, "port 443 was closed for a while"
    end = moments[-1]
    if wanted.rule is None:
        assert end is None
        return
    assert end is not None
    assert end.proxy == (wanted.rule.proxy or "none")
    assert end.taking == {f"{each}:{wanted.rule.port}" for each in wanted.members.values()}
    drained = {each.rpartition(":")[0] for each in set(end.nodes) - end.taking}
    assert drained <= set(wanted.draining.values())

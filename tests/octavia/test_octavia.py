"""An Octavia load balancer is driven through Octavia's own API."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import openstack
import pytest

from certsync.operator.balancer.managed import octavia
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import Clock, Leave, drive
from certsync.operator.balancer.managed.errors import (
    ManagedError,
    NoCredentialsError,
    NoSuchError,
    RefusedChangeError,
)
from certsync.operator.balancer.managed.port import Check, Rule

FLEET = {f"backend-0{each}": f"203.0.113.1{each}" for each in range(1, 5)}
PLAIN, PROXY = Rule(443, check=Check("tcp", 443)), Rule(8443, "v2", Check("tcp", 8443))
SECONDS = 60


class World:
    """A load balancer, and what drives it."""

    def __init__(self, cloud: openstack.connection.Connection, balancer: str) -> None:
        self.api, self.balancer = cloud.load_balancer, balancer
        self.told: list[str] = []

    def drive(self, rule: Rule | None, *numbers: int, adopt: bool = False, **more: Any) -> None:
        members = {name: FLEET[name] for name in map("backend-0{}".format, numbers)}
        draining = {name: FLEET[name] for name in more.get("draining", ())}
        wish = Wanted(rule, members, FLEET, draining)
        provider = octavia.connect(self.balancer, {})
        clock = Clock(time.monotonic, lambda seconds: time.sleep(min(seconds, 0.3)))
        drive(provider, wish, self.told.append, clock, SECONDS, Leave(adopt=adopt))

    def listener(self) -> Any:
        found = [each for each in self.api.listeners(load_balancer_id=self.balancer)
                 if each.protocol_port == 443]  # fmt: skip
        return found[0] if found else None

    def pool(self) -> Any:
        return self.api.get_pool(self.listener().default_pool_id)

    def members(self) -> dict[str, int]:
        return {
            f"{each.address}:{each.protocol_port}": each.weight
            for each in self.api.members(self.pool())
        }

    def settle(self) -> None:
        self.api.wait_for_load_balancer(self.balancer, interval=0, wait=10)


@pytest.fixture
def world(cloud: openstack.connection.Connection, balancer: str) -> World:
    return World(cloud, balancer)


def test_from_nothing_to_a_rule_with_members_and_a_check(world: World) -> None:
    world.drive(PROXY, 1, 2)
    assert (world.listener().protocol, world.pool().protocol) == ("TCP", "PROXYV2")
    assert world.members() == {"203.0.113.11:8443": 1, "203.0.113.12:8443": 1}
    assert world.api.get_health_monitor(world.pool().health_monitor_id).type == "TCP"


def test_a_second_time_nothing_is_changed(world: World) -> None:
    world.drive(PROXY, 1, 2)
    before, world.told = world.listener().updated_at, []
    pools = [each.updated_at for each in world.api.pools()]
    world.drive(PROXY, 1, 2)
    assert (world.told, world.listener().updated_at) == ([], before)
    assert [each.updated_at for each in world.api.pools()] == pools


def test_the_proxy_protocol_comes_by_a_second_pool_and_the_listener_stays(world: World) -> None:
    world.drive(PLAIN, 1, 2)
    listener, pool = world.listener().id, world.pool().id
    seen: list[set[str]] = []
    with watched(world, seen):
        world.drive(PROXY, 1, 2)
    assert world.listener().id == listener
    assert world.pool().protocol == "PROXYV2"
    assert world.members() == {"203.0.113.11:8443": 1, "203.0.113.12:8443": 1}
    assert seen, "nothing was looked at meanwhile"
    assert all(len(each) == 2 for each in seen), "the listener's pool lacked a member for a moment"
    assert pool not in [each.id for each in world.api.pools()]
    world.drive(PLAIN, 1, 2)
    assert world.members() == {"203.0.113.11:443": 1, "203.0.113.12:443": 1}


class watched:  # noqa: N801  # read as a word
    """Look at the addresses behind the listener, again and again while the block lasts."""

    def __init__(self, world: World, seen: list[set[str]]) -> None:
        self._world, self._seen, self._over = world, seen, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            try:
                self._seen.append({each.split(":")[0] for each in self._world.members()})
            except openstack.exceptions.NotFoundException:
                # The listener was turned between the two questions.
                continue


def test_a_changed_port_comes_by_a_second_pool_too(world: World) -> None:
    world.drive(PROXY, 1, 2)
    world.drive(Rule(9443, "v2", Check("tcp", 9443)), 1, 2)
    assert world.members() == {"203.0.113.11:9443": 1, "203.0.113.12:9443": 1}
    assert len(list(world.api.pools(loadbalancer_id=world.balancer))) == 1


def test_drained_and_then_removed(world: World) -> None:
    world.drive(PROXY, 1, 2)
    world.drive(PROXY, 1, draining=["backend-02"])
    assert world.members() == {"203.0.113.11:8443": 1, "203.0.113.12:8443": 0}
    world.drive(PROXY, 1)
    assert world.members() == {"203.0.113.11:8443": 1}
    world.drive(PROXY, 1, 2)
    assert world.told[-1] == "backend-02: gets traffic"


def test_a_drained_member_is_readmitted(world: World) -> None:
    world.drive(PROXY, 1, 2)
    world.drive(PROXY, 1, draining=["backend-02"])
    world.drive(PROXY, 1, 2)
    assert world.members() == {"203.0.113.11:8443": 1, "203.0.113.12:8443": 1}


def test_port_443_is_closed_and_nothing_of_ours_is_left(world: World) -> None:
    world.drive(PROXY, 1, 2)
    world.drive(None)
    assert world.listener() is None
    assert list(world.api.pools(loadbalancer_id=world.balancer)) == []


def test_port_80_is_left_alone(world: World) -> None:
    pool = world.api.create_pool(
        name="web", loadbalancer_id=world.balancer, protocol="HTTP", lb_algorithm="ROUND_ROBIN"
    )
    world.settle()
    http = world.api.create_listener(
        name="http", load_balancer_id=world.balancer, protocol="HTTP", protocol_port=80,
        default_pool_id=pool.id,
    )  # fmt: skip
    world.settle()
    world.api.create_member(pool, address="203.0.113.11", protocol_port=80)
    world.settle()
    before = facts(world, http.id, pool.id)
    world.drive(PLAIN, 1, 2)
    world.drive(PROXY, 1)
    world.drive(None)
    assert facts(world, http.id, pool.id) == before


def facts(world: World, listener: str, pool: str) -> list[Any]:
    found = [world.api.get_listener(listener).to_dict(), world.api.get_pool(pool).to_dict()]
    return [*found, [each.to_dict() for each in world.api.members(pool)]]


def foreign(world: World, **more: Any) -> str:
    pool = world.api.create_pool(
        name="theirs", loadbalancer_id=world.balancer, protocol="TCP",
        lb_algorithm="SOURCE_IP", **more,
    )  # fmt: skip
    world.settle()
    return str(pool.id)


def test_somebody_elses_listener_is_refused_until_it_is_adopted(world: World) -> None:
    pool = foreign(world)
    world.api.create_member(pool, address="203.0.113.99", protocol_port=443)
    world.settle()
    world.api.create_listener(
        name="theirs", load_balancer_id=world.balancer, protocol="TCP", protocol_port=443,
        default_pool_id=pool,
    )  # fmt: skip
    world.settle()
    with pytest.raises(RefusedChangeError, match=r"203\.0\.113\.99 is in its pool"):
        world.drive(PLAIN, 1)
    world.drive(PLAIN, 1, adopt=True)
    assert world.members() == {"203.0.113.11:443": 1}
    assert world.pool().lb_algorithm == "ROUND_ROBIN"


def test_an_interrupted_move_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drive(PLAIN, 1, 2)
    calls = 0

    def dies(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(octavia.Octavia, "_settle_pool", dies)
        with pytest.raises(KeyboardInterrupt):
            world.drive(PROXY, 1, 2)
    assert calls == 1
    assert world.members() == {"203.0.113.11:443": 1, "203.0.113.12:443": 1}
    world.drive(PROXY, 1, 2)
    assert world.members() == {"203.0.113.11:8443": 1, "203.0.113.12:8443": 1}
    assert len(list(world.api.pools(loadbalancer_id=world.balancer))) == 1


def test_somebody_elses_change_in_between_is_waited_for(world: World) -> None:
    world.drive(PLAIN, 1)
    world.api.update_load_balancer(world.balancer, name="renamed")
    world.drive(PLAIN, 1, 2)
    assert len(world.members()) == 2
    assert world.api.get_load_balancer(world.balancer).name == "renamed"


def test_a_wrong_id_is_told(world: World) -> None:
    world.balancer = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(NoSuchError, match="404"):
        world.drive(PLAIN, 1)


def test_a_cluster_s_load_balancer_is_refused_whatever_anybody_says(world: World) -> None:
    world.api.update_load_balancer(world.balancer, name="kube_service_prod_web_lb")
    world.settle()
    with pytest.raises(RefusedChangeError, match="Kubernetes"):
        world.drive(PLAIN, 1, adopt=True)


def test_without_credentials_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_AUTH_TYPE", "OS_ENDPOINT", "OS_TOKEN", "OS_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NoCredentialsError) as caught:
        octavia.connect("1", {}).read()
    assert "OS_CLOUD" in caught.value.hint


def test_an_empty_token_is_a_missing_one(
    cloud: openstack.connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cloud.load_balancer
    monkeypatch.setenv("OS_TOKEN", "")
    with pytest.raises(NoCredentialsError) as caught:
        octavia.connect("1", {})
    assert "OS_CLOUD" in caught.value.hint


def test_an_api_that_cannot_be_reached_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ManagedError, match="OpenStack"):
        world.drive(PLAIN, 1)


def test_the_token_is_in_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.drive(PLAIN, 1)
    assert "openstack-token-1f0c" not in caplog.text


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octavia, "LOOK_SECONDS", 0.1)

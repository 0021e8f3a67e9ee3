"""A NodeBalancer is driven, against a double that refuses what Linode would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from certsync.operator.balancer.managed import linode
from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.drive import NO_LEAVE, Clock, Leave, drive
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
from certsync.operator.balancer.managed.linode import NodeBalancer, label
from certsync.operator.balancer.managed.port import (
    MIXED_PORTS,
    NO_PORT,
    Check,
    Member,
    Rule,
    SetRule,
    State,
)
from tests.doubles.contract import Fault, differences, serve
from tests.doubles.linode import Linode

FLEET = {"web-1": "192.168.1.1", "web-2": "192.168.1.2", "web-3": "192.168.1.3"}
PLAIN, PROXY = Rule(443), Rule(8443, "v2")


@dataclass
class World:
    """A NodeBalancer with a website on port 80, beside one of somebody else."""

    now: float = 0
    told: list[str] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        self.api = Linode(lambda: self.now)
        self.number = self.api.balancer(label="fleet", tags=["shop"])
        web = self.api.config(self.number, port=80, check="http", check_path="/health")
        self.api.node(web, "192.168.1.1:80", label="web-1-http")
        other = self.api.config(self.api.balancer(label="other"), port=443, protocol="tcp")
        self.api.node(other, "192.168.9.9:443")
        self.theirs = deepcopy(self.api.state)

    @property
    def provider(self) -> NodeBalancer:
        return NodeBalancer(linode.api(self.api.token, f"{self.base}/v4"), self.number)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drive(self, wish: Wanted, leave: Leave = NO_LEAVE, seconds: float = 300) -> State:
        clock = Clock(lambda: self.now, self.sleep)
        return drive(self.provider, wish, self.told.append, clock, seconds, leave)

    def calls(self) -> list[str]:
        """Return the changing calls so far, without what is before the configs."""
        start = f"/v4/nodebalancers/{self.number}"
        return [f"{each.method} {each.path.removeprefix(start)}" for each in self.api.changing]

    def tls(self, *addresses: str, **settings: Any) -> int:
        """Give port 443 a config and nodes, as somebody has made them."""
        ready = {"port": 443, "protocol": "tcp", "check": "connection", **settings}
        number = self.api.config(self.number, **ready)
        for each in addresses:
            self.api.node(number, each)
        return number

    def nodes(self) -> dict[str, str]:
        """Return the nodes of port 443: address to mode."""
        found = [
            node
            for config in self.api.state["configs"].values()
            if config["port"] == 443 and config["nodebalancer_id"] == self.number
            for node in self.api.nodes_of(config["id"])
        ]
        return {each["address"]: each["mode"] for each in found}

    def only_ours_changed(self) -> None:
        """Check that all that was there before port 443 is as it was, and no call was wrong."""
        for kind in ("balancers", "configs", "nodes"):
            there = {name: self.api.state[kind].get(name) for name in self.theirs[kind]}
            assert differences(self.theirs[kind], there) == {}
        assert self.api.state["reloads"] == 0
        assert self.api.refused == []


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with serve(world.api) as base:
        world.base = base
        yield world
    world.only_ours_changed()


def wanted(rule: Rule | None, *names: str, draining: Sequence[str] = ()) -> Wanted:
    return Wanted(
        rule, {each: FLEET[each] for each in names}, FLEET, {each: FLEET[each] for each in draining}
    )


BOTH = wanted(PLAIN, "web-1", "web-2")


def test_an_empty_balancer_gets_the_rule_and_then_its_members(world: World) -> None:
    end = world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.told == [
        "port 443: TLS is passed through to port 8443, PROXY protocol v2",
        "web-1: gets traffic",
        "web-2: gets traffic",
    ]
    assert world.nodes() == {"192.168.1.1:8443": "accept", "192.168.1.2:8443": "accept"}
    assert end.rule == Rule(8443, "v2", Check("tcp", NO_PORT))
    assert [(each.address, each.takes, each.health) for each in end.members] == [
        ("192.168.1.1", True, "unknown"), ("192.168.1.2", True, "unknown"),
    ]  # fmt: skip
    [config] = [
        each.body for each in world.api.changing if each.path.endswith("/configs")
    ]  # fmt: skip
    assert config == {
        "port": 443, "protocol": "tcp", "proxy_protocol": "v2", "algorithm": "roundrobin",
        "stickiness": "none", "check": "connection", "check_interval": 5, "check_timeout": 3,
        "check_attempts": 2,
    }  # fmt: skip


def test_a_second_time_changes_nothing(world: World) -> None:
    wish = wanted(Rule(8443, "v2", Check("tcp", 8443)), "web-1", "web-2")
    world.drive(wish)
    world.api.calls, world.told = [], []
    world.drive(wish)
    assert (world.calls(), world.told) == ([], [])
    assert len(world.api.calls) == 3


def test_drained_and_then_removed(world: World) -> None:
    world.drive(BOTH)
    world.drive(wanted(PLAIN, "web-1", draining=["web-2"]))
    assert world.nodes() == {"192.168.1.1:443": "accept", "192.168.1.2:443": "drain"}
    world.drive(wanted(PLAIN, "web-1"))
    assert world.nodes() == {"192.168.1.1:443": "accept"}
    assert world.told[3:] == [
        "web-2: gets no new connections", "web-2: leaves the pool",
    ]  # fmt: skip


def test_one_that_was_drained_is_admitted_as_the_same_node(world: World) -> None:
    world.drive(BOTH)
    nodes = set(world.api.state["nodes"])
    world.drive(wanted(PLAIN, "web-1", draining=["web-2"]))
    world.drive(BOTH)
    assert set(world.api.state["nodes"]) == nodes
    assert set(world.nodes().values()) == {"accept"}
    # Whether PUT resets what is not sent is documented nowhere, so all of it is sent.
    names = {"label", "address", "weight", "mode"}
    assert [set(each.body) for each in world.api.changing if each.method == "PUT"] == [names] * 2


def test_the_proxy_protocol_and_the_port_change_by_one_call_and_each_node_stays(
    world: World,
) -> None:
    number = world.tls("192.168.1.1:443", algorithm="leastconn", check_interval=20)
    world.api.node(number, "192.168.1.2:443", mode="drain", weight=7, label="by-hand")
    before = deepcopy(world.api.nodes_of(number))
    for rule in (PROXY, Rule(8443, "v1"), PLAIN):
        world.api.calls = []
        world.drive(wanted(rule, "web-1", draining=["web-2"]))
        assert world.calls() == [f"POST /configs/{number}/rebuild"]
        after = [
            {**each, "address": f"192.168.1.{n}:{rule.port}"} for n, each in enumerate(before, 1)
        ]
        assert world.api.nodes_of(number) == after
        config = world.api.state["configs"][str(number)]
        assert (config["proxy_protocol"], config["port"]) == (rule.proxy or "none", 443)
        assert (config["algorithm"], config["check_interval"]) == ("leastconn", 20)


def test_a_new_member_comes_to_the_old_port_before_the_rule_moves(world: World) -> None:
    world.drive(wanted(PLAIN, "web-1"))
    world.api.calls = []
    world.drive(wanted(PROXY, "web-1", "web-2"))
    assert [each.body.get("address") for each in world.api.changing] == ["192.168.1.2:443", None]
    assert set(world.nodes()) == {"192.168.1.1:8443", "192.168.1.2:8443"}


def test_an_empty_pool_gets_its_rule_before_its_members(world: World) -> None:
    number = world.tls()
    world.drive(wanted(PROXY, "web-1"))
    assert world.calls() == [f"PUT /configs/{number}", f"POST /configs/{number}/nodes"]


def test_without_the_rule_there_is_no_config_and_it_may_come_again(world: World) -> None:
    world.drive(BOTH)
    assert world.drive(wanted(None, "web-1")) == State(None)
    assert world.told[3:] == ["port 443: closed"]
    assert world.nodes() == {}
    world.drive(BOTH)
    assert len(world.nodes()) == 2


def test_what_keeps_a_client_at_one_node_is_put_right(world: World) -> None:
    number = world.tls("192.168.1.1:443", stickiness="table", algorithm="source", check="http")
    world.drive(wanted(PLAIN, "web-1"))
    config = world.api.state["configs"][str(number)]
    settings = [config[each] for each in ("stickiness", "algorithm", "check", "check_interval")]
    assert settings == ["none", "roundrobin", "connection", 5]
    assert len(world.calls()) == 1


def test_nodes_on_different_ports_and_twice_are_put_right(world: World) -> None:
    world.tls("192.168.1.1:443", "192.168.1.1:8443", "192.168.1.2:8443")
    state = world.provider.read()
    assert state.rule
    assert state.rule.port == MIXED_PORTS
    world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.nodes() == {"192.168.1.1:8443": "accept", "192.168.1.2:8443": "accept"}


def test_nodes_of_many_pages_are_all_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linode, "PAGE", 25)
    world.tls(*(f"10.0.0.{each}:443" for each in range(60)))
    assert len(world.provider.read().members) == 60
    pages = [each for each in world.api.calls if each.path.endswith("/nodes")]
    assert len(pages) == 3


def test_a_node_by_ipv6(world: World) -> None:
    world.tls("[2001:db8::1]:443")
    assert world.provider.read().members[0].address == "2001:db8::1"
    fleet = {"web-1": "2001:db8::1", "web-2": "2001:db8::2"}
    world.drive(Wanted(PROXY, fleet, fleet))
    assert set(world.nodes()) == {"[2001:db8::1]:8443", "[2001:db8::2]:8443"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"protocol": "https", "ssl_cert": "PEM", "ssl_key": "PEM"}, "https: TLS is opened there"),
        ({"protocol": "http"}, "http: TLS is opened there"),
        ({"protocol": "udp"}, "a config for UDP"),
    ],
)
def test_another_protocol_on_the_port_is_refused_until_taken_over(
    world: World, settings: dict[str, Any], why: str
) -> None:
    number = world.tls("192.168.1.1:443", **settings)
    with pytest.raises(RefusedChangeError, match=f"^nothing was changed: port 443 has .*{why}"):
        world.drive(BOTH)
    assert world.calls() == []
    state = world.drive(BOTH, Leave(adopt=True))
    assert state.rule == Rule(443, "", Check("tcp", NO_PORT))
    kept = world.api.state["configs"][str(number)]["protocol"]
    assert kept == ("udp" if settings["protocol"] == "udp" else "tcp")


def test_nodes_that_are_not_the_fleets_are_refused_until_taken_over(world: World) -> None:
    world.tls("192.168.1.1:443", "192.168.7.7:443")
    with pytest.raises(RefusedChangeError, match=r"192\.168\.7\.7 is in its pool"):
        world.drive(BOTH)
    assert world.calls() == []
    world.drive(BOTH, Leave(adopt=True))
    assert set(world.nodes()) == {"192.168.1.1:443", "192.168.1.2:443"}


@pytest.mark.parametrize(
    "marks",
    [
        {"label": "ccm-17a5b6c7d8e9"},
        {"tags": ["shop", "lke12345"]},
        {"tags": ["kubernetes"]},
        {"lke_cluster": {"id": 7, "label": "prod\x1b[2J", "type": "lkecluster"}},
    ],
)
def test_what_a_kubernetes_cluster_drives_is_left_alone(
    world: World, marks: dict[str, Any]
) -> None:
    world.api.state["balancers"][str(world.number)].update(marks)
    world.theirs = deepcopy(world.api.state)
    with pytest.raises(RefusedChangeError, match="a Kubernetes cluster drives") as raised:
        world.drive(BOTH, Leave(adopt=True))
    assert "\x1b" not in raised.value.message
    assert world.calls() == []


def test_nodes_in_a_vpc_are_left_alone(world: World) -> None:
    number = world.tls()
    world.api.node(number, "192.168.1.1:443", vpc_config_id=5)
    with pytest.raises(RefusedChangeError, match="in a VPC"):
        world.drive(BOTH, Leave(adopt=True))


def test_a_check_that_would_not_speak_tls_is_refused(world: World) -> None:
    with pytest.raises(ManagedError, match="by connections only"):
        world.drive(wanted(Rule(443, check=Check("https", 443, "/")), "web-1"))
    assert world.calls() == []


def nothing(_: Any) -> None:
    """Change nothing."""


CHANGES = {
    "the rule": (nothing, "POST */configs"),
    "a member": (nothing, "POST */nodes"),
    "draining": (lambda world: world.tls("192.168.1.1:443", "192.168.1.3:443"), "PUT */nodes/*"),
    "removal": (lambda world: world.tls("192.168.1.1:443", "192.168.1.2:443"), "DELETE */nodes/*"),
    "the PROXY protocol": (lambda world: world.tls("192.168.1.1:443"), "POST */rebuild"),
}
"""What is there before, and the call that goes wrong on the way from it."""

END = wanted(PROXY, "web-1", draining=["web-3"])


def ended(world: World) -> bool:
    modes = {address: mode for address, mode in world.nodes().items() if mode == "accept"}
    others = set(world.nodes().values()) - {"accept", "drain"}
    return modes == {"192.168.1.1:8443": "accept"} and not others


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 409}, {"status": 429, "headers": {"Retry-After": "7"}}, {"status": 500},
        {"status": 502, "carried_out": True}, {"status": 500, "carried_out": True}, {"cut": True},
        {"status": 400, "carried_out": True}, {"status": 503, "seconds": 50},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())) if isinstance(fault, dict) else "",
)  # fmt: skip
def test_what_passes_costs_a_look_and_no_second_node(
    world: World, before: str, fault: dict[str, Any]
) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    there = {each["address"].split(":")[0] for each in world.api.state["nodes"].values()}
    world.api.faults = [Fault(call, **fault)]
    world.drive(END)
    assert world.api.faults == []
    assert ended(world)
    assert len(world.told) == len(set(world.told))
    addresses = [each.split(":")[0] for each in world.nodes()]
    assert len(addresses) == len(set(addresses)) <= len(there | {"192.168.1.1"})


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (400, ManagedError, "the provider's words"), (401, TokenError, "does not accept the token"),
        (403, RightError, "the provider's words"), (404, NoSuchError, "the provider's words"),
        (409, BusyError, "not done yet"), (422, ManagedError, "the provider's words"),
        (429, LimitError, "too many calls"), (500, UncertainError, "internal error"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_told_and_the_next_run_ends_it(
    world: World, before: str, status: int, kind: type[ManagedError], why: str
) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, status, seconds=1000)]
    with pytest.raises(kind, match=why) as raised:
        world.drive(END)
    assert world.api.token not in raised.value.message + raised.value.hint
    assert raised.value.hint
    assert all(each.changed == {} for each in world.api.changing if each.status >= 400)
    world.only_ours_changed()
    world.now += 1001
    world.drive(END)
    assert ended(world)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, TokenError), (403, RightError), (404, NoSuchError)],
)
def test_what_cannot_be_read_is_not_taken_for_absent(
    world: World, status: int, kind: type[ManagedError]
) -> None:
    world.tls("192.168.1.1:443")
    for call in ("GET */configs", "GET */nodes", "GET /v4/nodebalancers/*"):
        gone = call == "GET */nodes" and status == 404
        world.api.faults = [Fault(call, status)]
        with pytest.raises(UnansweredError if gone else kind):
            world.drive(END)
    assert world.calls() == []


def test_a_config_that_somebody_removes_meanwhile_is_made_again(world: World) -> None:
    number = str(world.tls("192.168.1.1:443"))

    def removes(state: dict[str, Any]) -> None:
        state["configs"].pop(number, None)
        for name, each in list(state["nodes"].items()):
            if str(each["config_id"]) == number:
                del state["nodes"][name]

    world.api.faults = [Fault("GET */nodes", meanwhile=removes, passing=1)]
    world.drive(BOTH)
    assert set(world.nodes()) == {"192.168.1.1:443", "192.168.1.2:443"}
    assert world.calls()[1] == "POST /configs"


def test_reading_that_fails_midway_is_repeated(world: World) -> None:
    world.api.faults = [
        Fault("GET */nodes", 500, passing=1),
        Fault("GET */configs", 429, headers={"Retry-After": "3"}, passing=2),
        Fault("GET */nodes", cut=True, passing=2),
    ]
    world.drive(BOTH)
    assert world.api.faults == []
    assert world.calls()[0] == "POST /configs"
    assert len(world.calls()) == 3


@pytest.mark.parametrize("when", [0, 1, 2])
def test_another_writer_between_two_calls_is_seen(world: World, when: int) -> None:
    def drains(state: dict[str, Any]) -> None:
        for each in state["nodes"].values():
            if each["address"] == "192.168.1.1:443":
                each["mode"] = "drain"

    world.tls("192.168.1.1:443")
    world.api.faults = [Fault("GET */nodes", meanwhile=drains, passing=when)]
    world.drive(wanted(PLAIN, "web-1", "web-2", "web-3"))
    assert set(world.nodes().values()) == {"accept"}
    assert len(world.nodes()) == 3


def test_a_node_that_is_gone_already_is_no_failure(world: World) -> None:
    world.tls("192.168.1.1:443", "192.168.1.3:443")

    def takes_it(state: dict[str, Any]) -> None:
        [name] = [n for n, each in state["nodes"].items() if each["address"] == "192.168.1.3:443"]
        del state["nodes"][name]

    world.api.faults = [Fault("DELETE *", meanwhile=takes_it)]
    world.drive(wanted(PLAIN, "web-1"))
    assert world.told == ["web-3: leaves the pool"]


def test_one_that_takes_every_new_node_away_again_is_told(world: World) -> None:
    world.tls("192.168.1.1:443")

    def takes_it(state: dict[str, Any]) -> None:
        for name, each in list(state["nodes"].items()):
            if each["address"] == "192.168.1.2:443":
                del state["nodes"][name]

    world.api.faults = [Fault("GET */nodes", meanwhile=takes_it, seconds=1e6)]
    with pytest.raises(ManagedError, match=r"not done yet: web-2: gets traffic") as raised:
        world.drive(BOTH)
    assert "Terraform" in raised.value.hint


def test_more_backends_than_the_rates_allow_take_a_minute_more(world: World) -> None:
    fleet = {f"web-{each}": f"10.0.1.{each}" for each in range(120)}
    world.drive(Wanted(PLAIN, fleet, fleet), seconds=1200)
    assert len(world.nodes()) == 120
    assert any(each.status == 429 for each in world.api.calls)


CONFIG = {
    "id": 11, "port": 443, "protocol": "tcp", "check": "none", "proxy_protocol": "none",
    "stickiness": "none", "algorithm": "roundrobin",
}  # fmt: skip
NODE = {"id": 12, "address": "192.168.1.1:443", "mode": "accept", "status": "UP"}


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        ("", []), ("", {"label": 7}), ("/configs", []), ("/configs", {"data": [CONFIG]}),
        ("/configs", {"data": [{"port": 443}], "pages": 1}),
        ("/configs", {"data": [CONFIG], "pages": "many"}),
        ("/configs/11/nodes", {"data": ["web-1"], "pages": 1}),
        ("/configs/11/nodes", {"data": [{**NODE, "address": "web-1"}], "pages": 1}),
        ("/configs/11/nodes", {"data": [{**NODE, "address": None}], "pages": 1}),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_an_error_of_ours(place: str, answer: Any) -> None:
    answers: dict[str, Any] = {
        "": {"label": "fleet", "tags": []},
        "/configs": {"data": [CONFIG], "pages": 1},
        "/configs/11/nodes": {"data": [NODE], "pages": 1},
    }

    class Answers:
        def get(self, path: str, **_: object) -> Any:
            return answers[path.removeprefix("/nodebalancers/7")]

    provider = NodeBalancer(Answers(), 7)  # type: ignore[arg-type]  # it is only asked
    assert provider.read().members == (Member("192.168.1.1", "12", health="UP"),)
    answers[place] = answer
    with pytest.raises(ManagedError, match="in a form that this version does not know"):
        provider.read()


def test_a_change_is_made_to_what_was_read(world: World) -> None:
    provider = world.provider
    provider.read()
    provider.apply([SetRule(PLAIN)])
    with pytest.raises(ManagedError, match="already in use"):
        provider.apply([SetRule(PLAIN)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web-1", "web-1"),
        ("a", "a--"),
        ("web 1/ä", "web-1--"),
        ("a" * 32, "a" * 32),
        ("a" * 40, f"{'a' * 23}-e33cdf9c"),
    ],
)
def test_a_label_has_what_the_api_takes(name: str, expected: str) -> None:
    assert label(name) == expected


def test_long_names_have_labels_of_their_own() -> None:
    assert label("backend-in-the-first-data-centre-1") != label(
        "backend-in-the-first-data-centre-2"
    )
    assert len(label("backend-in-the-first-data-centre-1")) == 32


def test_a_member_is_known_by_its_node() -> None:
    node = {"id": 7, "address": "10.0.0.1:443", "mode": "backup", "status": "DOWN\x1b"}
    assert linode._member(node) == Member("10.0.0.1", "7", takes=False, health="DOWN?")

"""A Hetzner load balancer is driven, against a double that refuses what Hetzner would."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from certsync.model.options import Balancer, Provider
from certsync.operator.balancer.managed import hetzner, providers
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
    UncertainError,
)
from certsync.operator.balancer.managed.hetzner import HetznerBalancer, connect
from certsync.operator.balancer.managed.hetzner_api import HINTS
from certsync.operator.balancer.managed.port import Check, Drain, DropRule, Member, Rule, State
from tests.doubles.contract import Fault, differences, serve
from tests.doubles.hetzner import HTTP, STARTED, Hetzner

FLEET = {"web-1": "10.0.0.11", "web-2": "10.0.0.12", "web-3": "10.0.0.13"}
PLAIN, PROXY = Rule(443), Rule(8443, "v2")
CHECKED = Rule(443, check=Check("https", 443, "/health"))


@dataclass
class World:
    """A load balancer with a website on port 80, beside one of somebody else."""

    now: float = 0
    told: list[str] = field(default_factory=list)
    base: str = ""

    def __post_init__(self) -> None:
        self.api = Hetzner(lambda: self.now)
        self.number = self.api.balancer(name="fleet", labels={"shop": "yes"})
        self.servers = {each: self.api.server(address) for each, address in FLEET.items()}
        web = {"protocol": "http", "path": "/", "tls": False}
        self.api.service(self.number, 80, protocol="http", http=HTTP, health_check={
            "protocol": "http", "port": 80, "interval": 15, "timeout": 10, "retries": 3,
            "http": {"domain": None, "response": "", "status_codes": ["2??"],
                     "path": web["path"], "tls": False},
        })  # fmt: skip
        other = self.api.balancer(name="other")
        self.api.service(other, 443)
        self.api.target(other, type="server", server={"id": self.servers["web-1"]})
        self.theirs = deepcopy(self.api.state)

    @property
    def provider(self) -> HetznerBalancer:
        return HetznerBalancer(hetzner.api(self.api.token, self.base), self.number, self.sleep)

    def provider_read(self) -> HetznerBalancer:
        provider = self.provider
        provider.read()
        return provider

    @property
    def balancer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.state["balancers"][str(self.number)]
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def drive(self, wish: Wanted, leave: Leave = NO_LEAVE, seconds: float = 300) -> State:
        clock = Clock(lambda: self.now, self.sleep)
        return drive(self.provider, wish, self.told.append, clock, seconds, leave)

    def calls(self) -> list[str]:
        """Return the changing calls so far, by their names."""
        return [each.path.rpartition("/")[2] for each in self.api.changing]

    def joined(self, *names: str) -> None:
        """Make servers targets, as somebody has made them."""
        for each in names:
            number = {"id": self.servers[each]}
            self.api.target(self.number, type="server", server=number, use_private_ip=True)

    def tls(self, *names: str, **settings: Any) -> None:
        """Give port 443 a service, and the balancer targets."""
        self.api.service(self.number, 443, **settings)
        self.joined(*names)

    def service(self) -> dict[str, Any]:
        [found] = [each for each in self.balancer["services"] if each["listen_port"] == 443]
        return dict(found)

    def targets(self) -> list[str]:
        names = {number: name for name, number in self.servers.items()}
        return [names.get(each.get("server", {}).get("id"), "?") for each in
                self.balancer["targets"]]  # fmt: skip

    def only_ours_changed(self) -> None:
        """Check that all but port 443 and the targets is as it was, and that no call was wrong."""

        def rest(state: dict[str, Any]) -> dict[str, Any]:
            found = deepcopy({name: state[name] for name in ("balancers", "servers")})
            ours = found["balancers"][str(self.number)]
            ours["services"] = [each for each in ours["services"] if each["listen_port"] != 443]
            ours["targets"] = []
            return found

        assert differences(rest(self.theirs), rest(self.api.state)) == {}
        assert self.api.refused == []


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with serve(world.api) as base:
        world.base = base
        yield world
    world.only_ours_changed()


def wanted(rule: Rule | None, *names: str) -> Wanted:
    return Wanted(rule, {each: FLEET[each] for each in names}, FLEET)


BOTH = wanted(PLAIN, "web-1", "web-2")


def test_an_empty_balancer_gets_its_members_and_then_the_rule(world: World) -> None:
    end = world.drive(wanted(PROXY, "web-1", "web-2"))
    assert world.told == [
        "web-1: gets traffic",
        "web-2: gets traffic",
        "port 443: TLS is passed through to port 8443, PROXY protocol v2",
    ]
    assert world.calls() == ["add_target", "add_target", "add_service"]
    assert world.api.changing[0].body == {
        "type": "server", "server": {"id": world.servers["web-1"]}, "use_private_ip": True,
    }  # fmt: skip
    assert world.service() == {
        "protocol": "tcp", "listen_port": 443, "destination_port": 8443, "proxyprotocol": True,
        "health_check": {
            "protocol": "tcp", "port": 8443, "interval": 5, "timeout": 3, "retries": 2,
        },
    }  # fmt: skip
    assert end.rule == Rule(8443, "v2", Check("tcp", 8443))
    assert [each.address for each in end.members] == ["10.0.0.11", "10.0.0.12"]


@pytest.mark.parametrize("rule", [PROXY, CHECKED, Rule(8443, "v2", Check("https", 443, "/up"))])
def test_a_second_time_changes_nothing(world: World, rule: Rule) -> None:
    wish = wanted(rule, "web-1", "web-2")
    world.drive(wish)
    world.api.calls, world.told = [], []
    world.drive(wish)
    assert (world.calls(), world.told) == ([], [])
    assert len(world.api.calls) == 3


def test_one_that_is_drained_leaves_as_the_provider_cannot_drain(world: World) -> None:
    world.tls("web-1", "web-2")
    world.drive(Wanted(PLAIN, {"web-1": FLEET["web-1"]}, FLEET, {"web-2": FLEET["web-2"]}))
    assert world.told == ["web-2: leaves the pool"]
    assert world.targets() == ["web-1"]
    assert world.api.changing[-1].body == {
        "type": "server", "server": {"id": world.servers["web-2"]},
    }  # fmt: skip
    provider = world.provider
    provider.read()
    with pytest.raises(ManagedError, match="cannot drain"):
        provider.apply([Drain(Member("10.0.0.11", "server 1"))])


def test_the_port_the_proxy_protocol_and_the_check_change_by_one_call(world: World) -> None:
    check = {"protocol": "tcp", "port": 443, "interval": 30, "timeout": 7, "retries": 4}
    world.tls("web-1", health_check=check)
    for rule in (PROXY, PLAIN):
        world.api.calls = []
        world.drive(wanted(rule, "web-1"))
        assert world.calls() == ["update_service"]
        assert world.service()["health_check"] == {**check, "port": rule.port}
        assert world.service()["destination_port"] == rule.port
        assert world.service()["proxyprotocol"] is bool(rule.proxy)


def test_a_check_of_somebody_elses_on_another_port_stays_as_it_is(world: World) -> None:
    check = {
        "protocol": "http", "port": 8081, "interval": 30, "timeout": 7, "retries": 4,
        "http": {"domain": "shop.example", "path": "/x", "response": "ok",
                 "status_codes": ["204"], "tls": True},
    }  # fmt: skip
    world.tls("web-1", health_check=check)
    world.drive(wanted(PROXY, "web-1"))
    assert world.service()["health_check"] == check


def test_a_check_becomes_an_https_request_and_a_connection_again(world: World) -> None:
    world.tls("web-1")
    world.drive(wanted(CHECKED, "web-1"))
    assert world.service()["health_check"] == {
        "protocol": "http", "port": 443, "interval": 15, "timeout": 10, "retries": 3,
        "http": {"path": "/health", "tls": True, "domain": None, "response": "",
                 "status_codes": ["2??", "3??"]},
    }  # fmt: skip
    end = world.drive(wanted(Rule(443, check=Check("tcp", 443)), "web-1"))
    assert end.rule == Rule(443, "", Check("tcp", 443))
    assert "http" not in world.service()["health_check"]


def test_without_the_rule_port_443_is_closed_and_may_open_again(world: World) -> None:
    world.drive(BOTH)
    end = world.drive(wanted(None, "web-1", "web-2"))
    assert end.rule is None
    assert world.told[3:] == ["port 443: closed"]
    assert world.targets() == ["web-1", "web-2"]
    assert world.drive(BOTH).rule == Rule(443, "", Check("tcp", 443))


def test_the_health_of_port_443_is_told(world: World) -> None:
    world.tls("web-1", "web-2")
    world.balancer["targets"][1]["health_status"] = [
        {"listen_port": 80, "status": "unhealthy"}, {"listen_port": 443, "status": "healthy"},
    ]  # fmt: skip
    assert [each.health for each in world.provider.read().members] == ["unknown", "healthy"]


def test_servers_of_many_pages_are_all_looked_through(world: World) -> None:
    for each in range(120):
        last = world.api.server(f"10.0.1.{each}")
    world.theirs = deepcopy(world.api.state)
    fleet = {"last": "10.0.1.119"}
    world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.api.changing[0].body["server"] == {"id": last}


def test_a_dedicated_server_is_a_target_by_its_address(world: World) -> None:
    fleet = {"metal": "10.0.9.9"}
    end = world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.api.changing[0].body == {"type": "ip", "ip": {"ip": "10.0.9.9"}}
    assert end.members == (Member("10.0.9.9", "ip 10.0.9.9"),)
    world.drive(Wanted(PLAIN, {"web-1": FLEET["web-1"]}, {**fleet, **FLEET}))
    assert world.api.changing[-1].body == {"type": "ip", "ip": {"ip": "10.0.9.9"}}
    assert world.targets() == ["web-1"]


def test_a_server_without_a_private_network_is_a_target_by_its_public_address(
    world: World,
) -> None:
    number = world.api.server("", "203.0.113.9")
    world.theirs = deepcopy(world.api.state)
    fleet = {"public": "203.0.113.9"}
    end = world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.balancer["targets"][0]["use_private_ip"] is False
    assert [each.id for each in end.members] == [f"server {number}"]


def test_a_server_in_another_network_is_refused_before_any_change(world: World) -> None:
    world.api.server("10.9.0.1", network=99)
    world.theirs = deepcopy(world.api.state)
    fleet = {"far": "10.9.0.1"}
    with pytest.raises(ManagedError, match=r"far \(10\.9\.0\.1\) is in no private network"):
        world.drive(Wanted(PLAIN, fleet, fleet))
    assert world.calls() == []
    assert list(world.provider_read().misfits({**fleet, **FLEET})) == ["far"]


def test_a_server_that_is_a_target_by_its_other_address_is_refused(world: World) -> None:
    number = world.api.server("10.0.0.50", "203.0.113.50")
    world.theirs = deepcopy(world.api.state)
    world.api.target(world.number, type="server", server={"id": number}, use_private_ip=False)
    fleet = {"web-9": "10.0.0.50"}
    with pytest.raises(RefusedChangeError, match=r"203\.0\.113\.50 is in its pool"):
        world.drive(Wanted(PLAIN, fleet, fleet))
    with pytest.raises(ManagedError, match="web-9's server is a target already"):
        world.drive(Wanted(PLAIN, fleet, fleet), Leave(adopt=True))
    assert world.calls() == []


def test_a_target_whose_server_is_gone_is_a_stranger(world: World) -> None:
    world.tls("web-1")
    world.api.target(world.number, type="server", server={"id": 77}, use_private_ip=True)
    with pytest.raises(RefusedChangeError, match="machine server 77 is in its pool"):
        world.drive(BOTH)
    world.drive(BOTH, Leave(adopt=True))
    assert world.targets() == ["web-1", "web-2"]


@pytest.mark.parametrize("protocol", ["https", "http"])
def test_tls_that_is_opened_there_is_refused_until_taken_over(world: World, protocol: str) -> None:
    world.tls("web-1", protocol=protocol, http=HTTP)
    with pytest.raises(RefusedChangeError, match=f"port 443 has protocol {protocol}"):
        world.drive(BOTH)
    assert world.calls() == []
    world.drive(BOTH, Leave(adopt=True))
    assert world.service()["protocol"] == "tcp"


def test_what_a_kubernetes_cluster_drives_is_left_alone(world: World) -> None:
    world.balancer["labels"]["hcloud-ccm/service-uid"] = "5f\x1b[2J"
    world.theirs = deepcopy(world.api.state)
    with pytest.raises(RefusedChangeError, match="a Kubernetes cluster drives") as raised:
        world.drive(BOTH, Leave(adopt=True))
    assert "\x1b" not in raised.value.message
    assert world.calls() == []


def test_targets_by_labels_are_left_alone(world: World) -> None:
    inner = [{"type": "server", "server": {"id": 1}, "use_private_ip": True}]
    world.api.target(
        world.number, type="label_selector", label_selector={"selector": "role=web"}, targets=inner
    )
    with pytest.raises(RefusedChangeError, match=r"chosen by labels \(role=web\)"):
        world.drive(BOTH, Leave(adopt=True))
    assert world.calls() == []


@pytest.mark.parametrize(("what", "why"), [("max_targets", "2 targets"), ("max_services", "1 s")])
def test_what_its_type_has_no_room_for_is_told_before_any_change(
    world: World, what: str, why: str
) -> None:
    world.balancer["load_balancer_type"][what] = 1
    world.theirs = deepcopy(world.api.state)
    with pytest.raises(ManagedError, match=rf"{why}.*|its type lb11 has at most {why}") as raised:
        world.drive(BOTH)
    assert "larger" in raised.value.hint
    assert world.calls() == []


def nothing(_: World) -> None:
    """Change nothing."""


CHANGES: dict[str, tuple[Callable[[World], None], str]] = {
    "the rule": (lambda world: world.joined("web-1"), "POST */add_service"),
    "a member": (lambda world: world.tls("web-2"), "POST */add_target"),
    "removal": (lambda world: world.tls("web-1", "web-3"), "POST */remove_target"),
    "the PROXY protocol": (lambda world: world.tls("web-1"), "POST */update_service"),
}
"""What is there before, and the call that goes wrong on the way from it."""

END = wanted(PROXY, "web-1")


def ended(world: World) -> bool:
    return world.targets() == ["web-1"] and world.service()["proxyprotocol"] is True


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 409}, {"status": 423}, {"status": 429, "headers": {"Retry-After": "7"}},
        {"status": 500}, {"status": 502, "carried_out": True}, {"cut": True},
        {"status": 504, "carried_out": True}, {"status": 422, "carried_out": True},
        {"status": 503, "seconds": 50}, {"status": 409, "seconds": 50},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())) if isinstance(fault, dict) else "",
)  # fmt: skip
def test_what_passes_costs_a_look_and_no_second_target(
    world: World, before: str, fault: dict[str, Any]
) -> None:
    prepare, call = CHANGES[before]
    prepare(world)
    world.api.faults = [Fault(call, **fault)]
    world.drive(END)
    assert world.api.faults == []
    assert ended(world)
    assert len(world.told) == len(set(world.told))
    again = [each for each in world.api.changing if each.status == 201 and not each.changed]
    assert again == []


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize(
    ("status", "kind", "why"),
    [
        (401, TokenError, "does not accept the token"), (403, RightError, "the provider's words"),
        (404, NoSuchError, "the provider's words"), (409, BusyError, "not done yet"),
        (422, ManagedError, "the provider's words"), (423, BusyError, "not done yet"),
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
    world.now += 1001
    world.drive(END)
    assert ended(world)


@pytest.mark.parametrize("code", HINTS)
def test_each_code_has_a_hint_of_its_own(world: World, code: str) -> None:
    world.api.faults = [Fault("POST */add_target", 422, f"{code}: no", seconds=1000)]
    with pytest.raises(ManagedError, match=rf"no \({code}\)") as raised:
        world.drive(BOTH)
    assert raised.value.hint == HINTS[code]
    assert type(raised.value) is ManagedError


@pytest.mark.parametrize(("status", "kind"), [(401, TokenError), (403, RightError),
                                              (404, NoSuchError)])  # fmt: skip
def test_what_cannot_be_read_is_not_taken_for_absent(
    world: World, status: int, kind: type[ManagedError]
) -> None:
    world.tls("web-1")
    for call in ("GET /load_balancers/*", "GET /servers", "GET */actions"):
        world.api.faults = [Fault(call, status)]
        with pytest.raises(kind):
            world.drive(END)
    assert world.calls() == []


def test_reading_that_fails_midway_is_repeated(world: World) -> None:
    world.api.faults = [
        Fault("GET /servers", 500, passing=1),
        Fault("GET */actions", 429, headers={"Retry-After": "3"}, passing=2),
        Fault("GET /servers", cut=True, passing=2),
    ]
    world.drive(BOTH)
    assert world.api.faults == []
    assert len(world.calls()) == 3


@pytest.mark.parametrize("seconds", [0.5, 8, 100])
def test_an_action_is_waited_for_and_never_begun_twice(world: World, seconds: float) -> None:
    world.api.seconds = seconds
    world.drive(BOTH, seconds=1000)
    assert world.calls() == ["add_target", "add_target", "add_service"]
    assert world.now >= 3 * seconds - 3


def test_an_action_that_does_not_end_is_told_and_the_next_run_waits_for_it(world: World) -> None:
    world.api.seconds = 400
    with pytest.raises(BusyError, match=r"is busy: add_target \(not done yet: web-1"):
        world.drive(BOTH)
    world.api.seconds = 0
    world.drive(BOTH)
    assert world.calls() == ["add_target", "add_target", "add_service"]


def test_another_ones_action_is_waited_for(world: World) -> None:
    world.api.state["actions"]["7"] = {
        "id": 7, "command": "change_type", "status": "running", "progress": 3,
        "started": STARTED, "finished": None, "error": None,
        "resources": [{"id": world.number, "type": "load_balancer"}],
    }  # fmt: skip

    def ends(state: dict[str, Any]) -> None:
        state["actions"]["7"]["status"] = "success"

    world.api.faults = [Fault("GET */actions", passing=2, meanwhile=ends)]
    world.drive(BOTH)
    assert world.calls() == ["add_target", "add_target", "add_service"]
    assert world.now >= 2


def test_an_action_that_fails_is_told_in_its_words(world: World) -> None:
    world.api.failing = ["server_not_attached_to_network"]
    with pytest.raises(ManagedError, match="add_target failed: it failed") as raised:
        world.drive(BOTH)
    assert raised.value.hint == HINTS["server_not_attached_to_network"]
    world.api.failing = ["locked", "conflict"]
    world.drive(BOTH)
    assert world.targets() == ["web-1", "web-2"]


def test_an_action_that_cannot_be_looked_at_costs_a_look(world: World) -> None:
    world.api.seconds = 2
    world.api.faults = [Fault("GET /actions/*", 500), Fault("GET /actions/*", 429, passing=1),
                        Fault("GET /actions/*", 404, passing=2)]  # fmt: skip
    world.drive(BOTH)
    assert world.api.faults == []
    assert world.calls() == ["add_target", "add_target", "add_service"]


def test_another_writer_between_two_calls_is_seen(world: World) -> None:
    def takes(state: dict[str, Any]) -> None:
        state["balancers"][str(world.number)]["targets"].clear()

    world.tls("web-1")
    world.api.faults = [Fault("POST */add_target", meanwhile=takes)]
    world.drive(BOTH)
    assert sorted(world.targets()) == ["web-1", "web-2"]


def test_a_target_that_is_gone_or_there_already_is_no_failure(world: World) -> None:
    world.tls("web-2", "web-3")

    def others(state: dict[str, Any]) -> None:
        targets = state["balancers"][str(world.number)]["targets"]
        web_3 = targets.pop()
        targets.append({**web_3, "server": {"id": world.servers["web-1"]}})

    world.api.faults = [Fault("POST */add_target", meanwhile=others)]
    world.drive(BOTH)
    assert sorted(world.targets()) == ["web-1", "web-2"]
    assert sorted(world.told) == ["web-1: gets traffic", "web-3: leaves the pool"]


def test_a_wrong_token_is_told_and_the_token_is_shown_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for each in ("urllib3", "requests", "hcloud"):
        caplog.set_level(logging.DEBUG, each)
    world.drive(BOTH)
    token, world.api.token = world.api.token, "another"
    wrong = HetznerBalancer(hetzner.api(token, world.base), world.number)
    with pytest.raises(TokenError, match="does not accept the token") as raised:
        wrong.read()
    everything = caplog.text + repr(vars(wrong)) + str(raised.value) + raised.value.hint
    assert caplog.text
    assert token not in everything
    # hcloud itself never has it.
    assert wrong._client._client._token == "-"
    world.api.token = token


def test_no_call_goes_over_hclouds_own_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("hcloud repeats calls by itself")

    monkeypatch.setattr("hcloud._client.ClientBase.request", never)
    world.api.faults = [Fault("POST */add_target", 504), Fault("POST */add_service", 409)]
    world.drive(BOTH)
    assert (world.calls()[0], world.calls()[-1]) == ("add_target", "add_service")
    assert len(world.calls()) == 5


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"load_balancer": 7}, {"load_balancer": {"id": 1, "targets": [{"type": "ip"}]}},
        {"load_balancer": {"id": 1, "services": [{"listen_port": 443}]}},
        {"load_balancer": {"id": 1, "targets": [{"type": "ip", "ip": {"ip": "web-1"}}]}},
        {"load_balancer": {"id": 1, "labels": 7}},
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_an_error_of_ours(answer: Any) -> None:
    class Answers:
        def get(self, path: str, **_: object) -> Any:
            meta = {"pagination": {"page": 1, "per_page": 25}}
            if path == "/servers":
                return {"servers": [], "meta": meta}
            return {"actions": [], "meta": meta} if path.endswith("actions") else answer

        def send(self, *_: object) -> Any:
            return {}

    provider = HetznerBalancer(Answers(), 1)  # type: ignore[arg-type]  # it is only asked
    with pytest.raises(ManagedError, match="in a form that this version does not know"):
        provider.read()


def test_a_change_whose_answer_has_another_form_may_have_been_made() -> None:
    class Answers:
        def get(self, path: str, **_: object) -> Any:
            meta = {"pagination": {"page": 1, "per_page": 25}}
            if path == "/servers":
                return {"servers": [], "meta": meta}
            return {"actions": [], "meta": meta, "load_balancer": {"id": 1}}

        def send(self, *_: object) -> Any:
            return {}

    provider = HetznerBalancer(Answers(), 1)  # type: ignore[arg-type]  # it is only asked
    provider.read()
    with pytest.raises(UncertainError, match="in a form that this version does not know"):
        provider.apply([DropRule()])


def test_it_is_connected_by_its_number_and_the_environment(world: World) -> None:
    environment = {"HCLOUD_TOKEN": world.api.token, "HCLOUD_ENDPOINT": world.base}
    assert connect(str(world.number), environment).read().rule is None
    with pytest.raises(ManagedError, match="is a number at Hetzner, not my-balancer"):
        connect("my-balancer", environment)
    with pytest.raises(TokenError, match="HCLOUD_TOKEN is not set"):
        connect("7", {})
    with pytest.raises(ManagedError, match="HCLOUD_ENDPOINT is no https:// URL"):
        connect("7", {**environment, "HCLOUD_ENDPOINT": "http://hetzner.example"})


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in [name for name in sys.modules if ".managed.hetzner" in name]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, "hcloud", None)
    balancer = Balancer(provider=Provider.HETZNER, load_balancer="7")
    with pytest.raises(ManagedError, match="hetzner needs Python packages") as raised:
        providers.connect(balancer, {"HCLOUD_TOKEN": "t"})
    assert "certsync-fleet[deploy,hetzner]" in raised.value.hint

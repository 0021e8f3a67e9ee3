"""A load balancer at DigitalOcean is driven, and nothing there changes but what is ours.

`tests/doubles/digitalocean.py` plays DigitalOcean. Nothing was tried at DigitalOcean itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from certsync.operator.balancer.managed.decide import Wanted
from certsync.operator.balancer.managed.errors import ManagedError, RefusedChangeError
from certsync.operator.balancer.managed.port import Drain, Member, Rule, SetRule
from tests.doubles import digitalocean as double
from tests.doubles.digitalocean import HTTP, droplet
from tests.unit.fake_cloud import (
    ADDRESSES,
    OURS,
    OURS_ON_TLS,
    RULE,
    TERMINATED,
    Cloud,
    foreign,
    running,
)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def test_an_empty_balancer_gets_its_members_and_then_the_rule_and_loses_nothing(
    cloud: Cloud,
) -> None:
    before = deepcopy(cloud.double.state)
    cloud.drive(2)
    assert foreign(before, cloud) == {}
    assert cloud.balancer["droplet_ids"] == [101, 102]
    assert cloud.balancer["forwarding_rules"][-1] == OURS_ON_TLS
    check = {**before["balancer"]["health_check"], "protocol": "https", "port": 443, "path": "/"}
    assert cloud.balancer["health_check"] == check
    done = [each for each in cloud.double.changing if each.status < 400]
    assert [(each.method, set(each.changed)) for each in done] == [
        ("POST", {"balancer.droplet_ids"}),
        ("PUT", OURS - {"balancer.droplet_ids"}),
    ]


def test_before_a_first_order_the_check_becomes_one_that_the_issuer_passes(cloud: Cloud) -> None:
    before = deepcopy(cloud.double.state)
    [first, *_] = ADDRESSES
    wish = Wanted(None, {first: ADDRESSES[first]}, ADDRESSES, check=RULE.check)
    cloud.drive_to(wish)
    cloud.drive_to(wish)
    assert foreign(before, cloud) == {}
    assert cloud.balancer["forwarding_rules"] == before["balancer"]["forwarding_rules"]
    done = [each for each in cloud.double.changing if each.status < 400]
    assert [(each.method, set(each.changed)) for each in done] == [
        ("PUT", OURS - {"balancer.forwarding_rules", "balancer.droplet_ids"}),
        ("POST", {"balancer.droplet_ids"}),
    ]


def test_what_is_there_already_is_left_alone(cloud: Cloud) -> None:
    cloud.ready(2)
    cloud.drive(2)
    assert cloud.double.changing == []


def test_all_that_stays_may_be_the_default_or_told_as_empty(cloud: Cloud) -> None:
    cloud.have(**{**double.DEFAULTS, "name": "shop", "vpc_uuid": double.VPC})
    before = deepcopy(cloud.double.state)
    cloud.drive(1)
    assert foreign(before, cloud) == {}


def test_an_old_size_is_kept(cloud: Cloud) -> None:
    cloud.have(size="lb-medium")
    del cloud.balancer["size_unit"]
    before = deepcopy(cloud.double.state)
    cloud.drive(1)
    assert foreign(before, cloud) == {}


def test_members_come_and_go_by_calls_that_touch_nothing_else(cloud: Cloud) -> None:
    cloud.ready(2)
    cloud.drive_to(Wanted(RULE, {"backend-03": "10.0.0.3"}, ADDRESSES))
    done = [each for each in cloud.double.changing if each.status < 400]
    assert [(each.method, each.body) for each in done] == [
        ("POST", {"droplet_ids": [103]}),
        ("DELETE", {"droplet_ids": [101, 102]}),
    ]
    assert all(set(each.changed) == {"balancer.droplet_ids"} for each in done)


def test_a_balancer_is_emptied_the_rule_first(cloud: Cloud) -> None:
    start = deepcopy(cloud.double.state)
    cloud.ready(2)
    cloud.drive(0, None)
    assert foreign(start, cloud) == {}
    assert cloud.balancer["droplet_ids"] == []
    assert cloud.balancer["forwarding_rules"] == start["balancer"]["forwarding_rules"]
    done = [each for each in cloud.double.changing if each.status < 400]
    assert [each.path.rpartition("/")[2] for each in done] == ["forwarding_rules", "droplets"]


def test_the_only_rule_is_not_taken_away(cloud: Cloud) -> None:
    cloud.have(forwarding_rules=[dict(OURS_ON_TLS)])
    with pytest.raises(ManagedError, match="only rule"):
        cloud.drive(0, None)
    assert cloud.double.changing == []


def test_ten_are_replaced_without_room_for_an_eleventh(cloud: Cloud) -> None:
    cloud.ready(10)
    before = deepcopy(cloud.double.state)
    members = dict(list(ADDRESSES.items())[1:11])
    cloud.drive_to(Wanted(RULE, members, ADDRESSES))
    assert cloud.balancer["droplet_ids"] == list(range(102, 112))
    assert foreign(before, cloud) == {}


def test_droplets_are_found_on_every_page(cloud: Cloud) -> None:
    others = [droplet(1000 + n, f"10.1.{n // 250}.{n % 250}") for n in range(430)]
    cloud.double.state["droplets"] = [*others, *cloud.double.state["droplets"]]
    cloud.drive(1)
    assert cloud.balancer["droplet_ids"] == [101]


@pytest.mark.parametrize("elsewhere", [{"vpc_uuid": "other"}, {"region": {"slug": "nyc3"}}])
def test_a_droplet_with_the_same_address_in_another_network_is_not_taken(
    cloud: Cloud, elsewhere: dict[str, Any]
) -> None:
    cloud.double.state["droplets"].insert(0, droplet(7, "10.0.0.1", **elsewhere))
    cloud.drive(1)
    assert cloud.balancer["droplet_ids"] == [101]


@pytest.mark.parametrize(
    ("droplets", "words"),
    [
        ([], "backend-01: no droplets in the load balancer's region and VPC"),
        ([droplet(1, "10.0.0.1"), droplet(2, "10.0.0.1")], "backend-01: 2 droplets"),
        ([droplet(1, "10.0.0.1", vpc_uuid="other")], "backend-01: no droplets"),
    ],
)
def test_an_address_that_names_no_droplet_or_two_is_refused(
    cloud: Cloud, droplets: list[Any], words: str
) -> None:
    cloud.double.state["droplets"] = droplets
    with pytest.raises(ManagedError, match=words):
        cloud.drive(1)
    assert cloud.double.changing == []


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"redirect_http_to_https": True}, "redirects HTTP to HTTPS"),
        (
            {"sticky_sessions": {"type": "cookies", "cookie_name": "lb", "cookie_ttl_seconds": 9}},
            "sticky sessions",
        ),
        ({"enable_proxy_protocol": True}, "PROXY protocol on every port"),
        ({"status": "errored"}, "errored"),
        ({"type": "GLOBAL"}, "type is GLOBAL"),
        ({"type": "REGIONAL_NETWORK"}, "type is REGIONAL_NETWORK"),
        ({"tag": "web"}, "the tag web"),
        ({"tags": ["k8s:7f1c"]}, "Kubernetes"),
        ({"name": "ace288b51796411e7af69267d6e0a2ca"}, "Kubernetes"),
        ({"droplet_ids": [112, 9]}, "machine 9 is in its pool"),
    ],
)
def test_what_is_somebody_elses_stops_it_before_anything_changes(
    cloud: Cloud, there: dict[str, Any], words: str
) -> None:
    cloud.have(**there)
    before = deepcopy(cloud.double.state)
    with pytest.raises(RefusedChangeError, match=words):
        cloud.drive(2)
    assert cloud.double.state == before
    assert cloud.double.changing == []


TAKEN = [
    [{**TERMINATED, "target_protocol": "http", "target_port": 80}],
    [TERMINATED],
    [{**OURS_ON_TLS, "target_port": 9443}],
    [{**OURS_ON_TLS, "entry_protocol": "tcp", "target_protocol": "tcp", "tls_passthrough": False}],
    [{**TERMINATED, "entry_protocol": "http3"}, OURS_ON_TLS],
    [OURS_ON_TLS, {**TERMINATED, "entry_protocol": "http3"}],
]


@pytest.mark.parametrize("rules", TAKEN)
def test_another_rule_on_port_443_stops_it_unless_it_may_be_taken_over(
    cloud: Cloud, rules: list[dict[str, Any]]
) -> None:
    cloud.have(forwarding_rules=[HTTP, *rules])
    before = deepcopy(cloud.double.state)
    with pytest.raises(RefusedChangeError, match="port 443"):
        cloud.drive(1)
    assert cloud.double.state == before
    cloud.drive(1, adopt=True)
    assert cloud.balancer["forwarding_rules"] == [HTTP, OURS_ON_TLS]
    assert foreign(before, cloud) == {}


@pytest.mark.parametrize("rules", TAKEN)
def test_another_rule_that_may_be_taken_over_is_closed_where_none_is_wanted(
    cloud: Cloud, rules: list[dict[str, Any]]
) -> None:
    cloud.have(forwarding_rules=[HTTP, *rules])
    cloud.drive(0, None, adopt=True)
    assert cloud.balancer["forwarding_rules"] == [HTTP]


def test_a_second_rule_beside_ours_goes_where_it_may_be_taken_over(cloud: Cloud) -> None:
    cloud.ready(1)
    cloud.balancer["forwarding_rules"].append({**TERMINATED, "entry_protocol": "http3"})
    cloud.drive(1, adopt=True)
    assert cloud.balancer["forwarding_rules"][2:] == [OURS_ON_TLS]


def test_taken_over_its_proxy_protocol_is_off_and_the_rest_stays(cloud: Cloud) -> None:
    cloud.have(enable_proxy_protocol=True, redirect_http_to_https=True)
    before = deepcopy(cloud.double.state)
    cloud.drive(1, adopt=True)
    assert foreign(before, cloud) == {"balancer.enable_proxy_protocol": (True, False)}


def test_taken_over_a_tag_stays_and_members_cannot_be_chosen(cloud: Cloud) -> None:
    cloud.have(tag="web")
    cloud.double.state["droplets"][0]["tags"] = ["web"]
    before = deepcopy(cloud.double.state)
    cloud.drive(1, adopt=True)
    assert foreign(before, cloud) == {}
    with pytest.raises(ManagedError, match="droplets with the tag web"):
        cloud.drive(2, adopt=True)


@pytest.mark.parametrize("kind", ["GLOBAL", "REGIONAL_NETWORK"])
def test_another_type_is_not_driven_even_if_it_may_be_taken_over(cloud: Cloud, kind: str) -> None:
    cloud.have(type=kind)
    with pytest.raises(ManagedError, match=f"type {kind}"):
        cloud.drive(1, adopt=True)
    assert cloud.double.changing == []


def test_what_it_cannot_do_is_refused(cloud: Cloud) -> None:
    provider = cloud.provider
    provider.read()
    with pytest.raises(ManagedError, match="PROXY protocol on all ports or none"):
        provider.apply([SetRule(Rule(8443, "v1"))])
    with pytest.raises(ManagedError, match="cannot drain"):
        provider.apply([Drain(Member("10.0.0.1", "101"))])
    assert cloud.double.changing == []


def test_a_new_one_is_waited_for(cloud: Cloud) -> None:
    cloud.double.active_at = cloud.time + 30
    cloud.drive(1)
    assert cloud.time >= 1030
    assert {each.status for each in cloud.double.changing} <= {200, 204, 403}
    assert cloud.double.changing[0].status == 204, "it was not asked before it was active"


def test_what_was_done_is_told(cloud: Cloud) -> None:
    cloud.drive(1)
    assert cloud.told == ["backend-01: gets traffic", "port 443: TLS is passed through to port 443"]
    assert cloud.provider.read().members == (Member("10.0.0.1", "101"),)

"""Balancers that share addresses: their numbers, their files, and who is told to hold what."""

from __future__ import annotations

from pathlib import Path

import pytest

from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import Fleet
from certsync.model.options import Balancer
from certsync.operator.balancer import vrrp
from certsync.operator.fleet_file import parse_fleet
from certsync.operator.hosts.facts import MARK
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import fleet, machine

V4, V6 = "203.0.113.100", "2001:db8:113::100"


def of(*addresses: str, balancers: int = 2) -> Fleet:
    names = ["balancer", *(f"balancer-0{number}" for number in range(2, balancers + 1))]
    hosts = tuple(machine(name, 70 + number) for number, name in enumerate(names))
    return fleet(balancers=hosts, balancer=Balancer(virtual_addresses=addresses))


def test_the_number_of_the_router_is_that_of_its_addresses_in_whatever_order() -> None:
    assert vrrp.identifier((V4, V6)) == vrrp.identifier((V6, V4))
    numbers = {vrrp.identifier((f"10.0.{n // 250}.{n % 250}",)) for n in range(3000)}
    assert (min(numbers), max(numbers)) == (1, 255)


@pytest.mark.parametrize(("balancers", "priorities"), [(2, [250, 210]), (3, [250, 210, 170])])
def test_priorities_follow_the_fleet_file_and_are_apart(
    balancers: int, priorities: list[int]
) -> None:
    made = of(V4, balancers=balancers)
    assert [vrrp.priority(made, each) for each in made.balancers] == priorities


def test_the_lowest_of_many_balancers_still_has_a_priority() -> None:
    made = of(V4, balancers=9)
    assert vrrp.priority(made, made.balancers[-1]) > 0


def test_addresses_of_the_other_family_are_carried_along() -> None:
    made = of(V4, V6)
    text = templates.keepalived(made, made.balancers[0], "eth1")
    named, _, carried = text.partition("virtual_ipaddress_excluded {")
    assert f"{V4}/32 dev eth1" in named
    assert f"{V6}/128 dev eth1" in carried
    assert V6 not in named


def test_each_balancer_speaks_with_the_others_and_none_is_born_with_the_addresses() -> None:
    made = of(V4, balancers=3)
    text = templates.keepalived(made, made.balancers[1], "eth0")
    assert MARK in text.partition("\n")[0]
    assert "unicast_src_ip 203.0.113.71\n" in text
    assert "unicast_peer {\n        203.0.113.70\n        203.0.113.72\n    }" in text
    assert "state BACKUP\n    nopreempt\n" in text
    assert "virtual_ipaddress_excluded" not in text


def test_what_ended_leaves_no_address_behind_and_is_started_again() -> None:
    text = templates.keepalived_service(of(V4, V6), "eth0")
    assert "Restart=on-failure\n" in text
    for address in (f"{V4}/32", f"{V6}/128"):
        assert f"ip address delete {address} dev eth0" in text


def test_the_note_says_where_the_addresses_are() -> None:
    made = of(V4, V6)
    held = vrrp.holders(made, {"balancer": ["203.0.113.70", V4, V6], "balancer-02": []})
    assert vrrp.note(held) == f"virtual addresses: {V4}, {V6} on balancer"
    assert vrrp.findings(held, []) == []
    assert vrrp.note(vrrp.holders(fleet(), {"balancer": []})) == ""


def test_an_address_of_two_or_of_nobody_is_a_finding() -> None:
    held = vrrp.holders(of(V4, V6), {"balancer": [V4], "balancer-02": [V4]})
    assert vrrp.note(held) == (
        f"virtual addresses: {V4} on balancer and balancer-02; {V6} on no balancer"
    )
    assert [str(each) for each in vrrp.findings(held, [])] == [
        f"{V4}: balancer and balancer-02 have it at the same time",
        f"{V6}: no balancer has it",
    ]


TOML = """\
names = ["www.example.com"]
public_addresses = ["203.0.113.100"]
[ca]
agree_to_terms = true
[backends.a]
address = "203.0.113.11"
[balancers.one]
address = "{one}"
[balancers.two]
address = "{two}"
[balancer]
virtual_addresses = ["{virtual}"]
"""
PLACE = "balancer.virtual_addresses"


@pytest.mark.parametrize(
    ("one", "two", "virtual", "mistake"),
    [
        (
            "203.0.113.70", "2001:db8:113::72", V4,
            Mistake(PLACE, "needs balancers with private addresses of one family",
                    "give all of them IPv4 addresses, or all IPv6"),
        ),
        (
            "203.0.113.70", "203.0.113.72", V6,
            Mistake(PLACE, "has no IPv4 address, but the balancers' private addresses are IPv4",
                    "add an IPv4 address, or give the balancers other private addresses"),
        ),
        (
            "2001:db8:113::70", "2001:db8:113::72", V4,
            Mistake(PLACE, "has no IPv6 address, but the balancers' private addresses are IPv6",
                    "add an IPv6 address, or give the balancers other private addresses"),
        ),
    ],
)  # fmt: skip
def test_addresses_that_the_balancers_cannot_speak_of_are_a_mistake(
    one: str, two: str, virtual: str, mistake: Mistake
) -> None:
    with pytest.raises(FleetFileError) as caught:
        parse_fleet(TOML.format(one=one, two=two, virtual=virtual), "fleet.toml", Path())
    assert caught.value.mistakes == [mistake]


def test_addresses_of_the_balancers_own_family_are_none() -> None:
    text = TOML.format(one="203.0.113.70", two="203.0.113.72", virtual=V4)
    assert parse_fleet(text, "fleet.toml", Path()).balancer.virtual_addresses == (V4,)


def test_what_a_balancer_that_could_not_be_asked_holds_is_not_known() -> None:
    held = vrrp.holders(of(V4), {"balancer": []})
    assert vrrp.findings(held, ["balancer-02"]) == []

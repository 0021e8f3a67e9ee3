"""How often a balancer checks its members: often in a small fleet, never too often in a big one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from certsync.model.fleet import Fleet, Lineage
from certsync.model.options import Balancing, OnCertificateFailure
from certsync.operator.balancer import checks
from certsync.operator.balancer.gate import Gate, read
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import fleet, machine

REFUSING = Balancing(on_certificate_failure=OnCertificateFailure.REFUSE)
SECONDS = {"ms": 0.001, "s": 1.0}


def of_size(backends: int, lineages: int = 1, balancing: Balancing = Balancing()) -> Fleet:
    """Return a fleet whose second lineage is served by every second backend, others by all."""
    hosts = tuple(
        machine(f"b{n}", 1, private_address=f"10.0.{n // 250}.{n % 250}") for n in range(backends)
    )
    half = tuple(host.name for host in hosts[::2])
    named = tuple(
        Lineage((f"l{n}.example.com",), serving=half if n == 1 else ()) for n in range(lineages)
    )
    made = fleet(lineages=named, balancing=balancing, issuer_name="b0")
    return replace(made, backends=hosts)


def haproxy(made: Fleet) -> str:
    everybody = {host.name: True for host in made.backends}
    pools = {each.name: {host.name: True for host in made.members(each)} for each in made.lineages}
    gate = Gate(True, pools, everybody, dict.fromkeys(everybody, 8443))
    return templates.haproxy(made, made.balancers[0], gate)


def checked(text: str) -> dict[str, tuple[int, dict[str, float]]]:
    """Return each section's number of checked lines, and its intervals in seconds."""
    found = {}
    for section in re.split(r"^(?=backend )", text, flags=re.MULTILINE)[1:]:
        line = re.search(r"default-server check .*", section)
        if line:
            pairs = re.findall(r"(\w*inter) (\d+)(ms|s)\b", line.group())
            intervals = {word: int(value) * SECONDS[unit] for word, value, unit in pairs}
            number = len(re.findall(r"^    server ", section, re.MULTILINE))
            found[section.split()[1]] = (number, intervals)
    return found


FLEETS = pytest.mark.parametrize(
    ("backends", "lineages", "balancing"),
    [
        pytest.param(number, lineages, balancing, id=f"{number} {lineages} {name}")
        for number in (1, 2, 50, 51, 500)
        for lineages in (1, 3)
        for name, balancing in (("serve", Balancing()), ("refuse", REFUSING))
    ],
)


@FLEETS
def test_every_checked_line_of_every_pool_counts(
    backends: int, lineages: int, balancing: Balancing
) -> None:
    made = of_size(backends, lineages, balancing)
    lines = sum(number for number, _ in checked(haproxy(made)).values())
    assert checks.checked(made) == lines


@FLEETS
def test_a_balancer_makes_at_most_a_hundred_checks_a_second(
    backends: int, lineages: int, balancing: Balancing
) -> None:
    pools = checked(haproxy(of_size(backends, lineages, balancing))).values()
    assert sum(number / every["inter"] for number, every in pools) <= 100
    assert min(every["inter"] for _, every in pools) >= 2


@pytest.mark.parametrize("lineages", [1, 3])
def test_many_members_are_checked_no_more_often_when_all_of_them_are_down(lineages: int) -> None:
    pools = checked(haproxy(of_size(500, lineages))).values()
    down = sum(number / every.get("downinter", every["inter"]) for number, every in pools)
    assert down <= 100


@pytest.mark.parametrize(
    ("backends", "seconds"), [(1, 2), (50, 2), (51, 3), (100, 4), (500, 20), (5000, 200)]
)
def test_the_pause_between_two_checks_grows_with_the_fleet(backends: int, seconds: int) -> None:
    assert checks.interval(of_size(backends)) == seconds


def test_of_many_members_one_that_fails_is_checked_again_at_once_and_a_hanging_check_ends() -> None:
    text = haproxy(of_size(500))
    every = [intervals for name, (_, intervals) in checked(text).items() if name != "challenge"]
    assert [each["fastinter"] for each in every] == [0.5, 0.5, 0.5]
    assert text.count(" observe layer4 error-limit 3 on-error fastinter") == 3
    assert "    timeout check 2s\n" in text


def test_a_small_fleets_configuration_has_the_lines_that_it_always_had() -> None:
    text = haproxy(of_size(50))
    assert "timeout check" not in text
    assert re.findall(r"default-server check (?:.*crt )?(inter .*? rise \d)", text) == [
        "inter 5s fastinter 1s downinter 500ms fall 2 rise 1",
        "inter 2s fall 2 rise 2",
        "inter 2s fastinter 500ms downinter 1s fall 2 rise 2",
        "inter 2s fall 2 rise 2",
    ]


def test_what_a_big_fleets_balancer_has_is_read_back() -> None:
    made = of_size(500)
    has = read(haproxy(made))
    assert has.rule
    assert sum(has.pools[made.name].values()) == 500

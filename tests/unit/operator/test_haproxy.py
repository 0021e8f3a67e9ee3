"""What the balancers say of their members and of themselves."""

from __future__ import annotations

import pytest

from certsync.model.options import Balancing
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate
from certsync.operator.balancer.haproxy import (
    Answer,
    addresses,
    configured,
    in_pools,
    members,
    without_client_address,
)
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import NAME, fleet

HEADER = "# pxname,svname,status,check_desc,last_chk,\n"
ON, OFF = "# configuration frontend tls\n", "# configuration frontend http\n"


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [
        ("UP", "", "yes"),
        ("UP 1/2", "", "yes"),
        ("MAINT", "", "disabled"),
        (
            "DRAIN",
            "Layer7 check passed",
            "drained: `certsync deploy` readmits it, or finish `certsync remove-backend`",
        ),
        ("DOWN", "SSL handshake failure", "down: SSL handshake failure"),
        ("DOWN 1/2", "", "down: Layer6 invalid response"),
    ],
)
def test_a_members_state_is_one_word_and_its_reason(status: str, reason: str, word: str) -> None:
    line = f"tls,backend-01,{status},Layer6 invalid response,{reason},\n"
    other = "http,backend-01,DOWN,,,\ntls,BACKEND,UP,,,\n"
    assert members(f"{HEADER}{line}{other}{ON}") == {"backend-01": word}


def test_who_is_in_several_pools_has_a_word_in_each_and_one_of_all() -> None:
    output = f"{HEADER}tls,a,UP,,,\ntls-of-shop,a,MAINT,,,\ntls-of-shop,b,UP,,,\n{ON}"
    assert in_pools(output) == {"tls": {"a": "yes"}, "tls-of-shop": {"a": "disabled", "b": "yes"}}
    assert members(output) == {"a": "disabled (shop)", "b": "yes"}


def test_while_the_rule_is_off_nobody_is_in_the_pool() -> None:
    assert members(f"{HEADER}tls,backend-01,UP,,,\n{OFF}") == {"backend-01": "rule off"}


def test_a_balancers_own_addresses_are_told_beside_its_members() -> None:
    output = (
        f"{HEADER}tls,backend-01,UP,,,\n{ON}"
        "# address 127.0.0.1/8\n# address 203.0.113.100/32\n# address 2001:db8:113::100/128\n"
    )
    assert members(output) == {"backend-01": "yes"}
    assert addresses(output) == ("127.0.0.1", "203.0.113.100", "2001:db8:113::100")


# Who is not told the client's address

TOLD = {"backend-01": 8443, "backend-02": 8443}
EVERYBODY = {"backend-01": True, "backend-02": True}


def answer(has: Gate) -> Answer:
    return Answer({}, {}, (), has)


def test_who_takes_traffic_without_the_clients_address_is_named_with_what_to_look_at() -> None:
    has = Gate(True, {NAME: EVERYBODY}, ports={**TOLD, "backend-02": 0})
    (line,) = without_client_address(fleet(2), {"balancer": answer(has)})
    assert str(line) == (
        "backend-02: balancer sends it connections without the client's address, because its port "
        "8443 did not answer balancer (allow it in the firewall, or set proxy_protocol = false "
        "under [balancing])"
    )


def test_where_nobody_is_told_it_the_balancer_is_named_once() -> None:
    (line,) = without_client_address(fleet(2), {"balancer": answer(Gate(True, {NAME: EVERYBODY}))})
    assert str(line) == (
        "balancer: it sends no backend the client's address: no deploy has turned that on yet, or "
        "no backend answers it on port 8443 (allow it in the firewall, or set proxy_protocol = "
        "false under [balancing])"
    )


def test_nothing_is_said_where_all_are_told_it_or_nobody_is_to_be() -> None:
    assert (
        without_client_address(
            fleet(2), {"balancer": answer(Gate(True, {NAME: EVERYBODY}, ports=TOLD))}
        )
        == []
    )
    off = fleet(2, balancing=Balancing(proxy_protocol=False))
    assert without_client_address(off, {"balancer": answer(Gate(True, {NAME: EVERYBODY}))}) == []


@pytest.mark.parametrize(
    "has",
    [
        Gate(False, {NAME: EVERYBODY}),
        Gate(True, {NAME: dict.fromkeys(EVERYBODY, False)}),
    ],
)
def test_nothing_is_said_of_who_takes_no_traffic(has: Gate) -> None:
    assert without_client_address(fleet(2), {"balancer": answer(has)}) == []


def test_of_several_lineages_every_pool_counts_and_each_member_once() -> None:
    has = Gate(True, {NAME: {"backend-01": True}, "shop": EVERYBODY}, ports={"backend-01": 8443})
    (line,) = without_client_address(fleet(2), {"balancer": answer(has)})
    assert str(line).startswith("backend-02: ")


def test_what_a_balancer_is_configured_to_do_is_read_from_its_answer() -> None:
    has = Gate(True, {NAME: EVERYBODY}, EVERYBODY, TOLD)
    text = templates.haproxy(fleet(2), fleet(2).balancers[0], has)
    told = "".join(f"# configuration {line}\n" for line in text.splitlines())
    assert configured(f"{HEADER}tls,a,UP,,,\n{told}") == has
    assert gate.read(text) == configured(told)

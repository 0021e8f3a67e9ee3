"""What is written into the configurations of HAProxy and nginx, by a fleet's size and its hosts."""

from __future__ import annotations

import pytest

from certsync.model.fleet import Machine
from certsync.model.options import Balancing, Stickiness
from certsync.operator.balancer.gate import Gate
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import NAME, fleet

STICKY = Balancing(stickiness=Stickiness.SOURCE)
GATE = Gate(True, {NAME: {}}, {"backend-01": True, "backend-02": True, "backend-03": True})


def haproxy(addresses: tuple[str, ...]) -> str:
    balancers = tuple(
        Machine(f"balancer-0{number}", address, address)
        for number, address in enumerate(addresses, start=1)
    )
    members = dict.fromkeys(GATE.web, True)
    gate = Gate(True, {NAME: members}, members, dict.fromkeys(members, 0))
    return templates.haproxy(fleet(balancers=balancers, balancing=STICKY), balancers[0], gate)


def test_balancers_let_nobody_but_each_other_at_what_they_remember() -> None:
    text = haproxy(("203.0.113.10", "2001:db8:113::20", "203.0.113.30"))
    assert "    peer balancer-01 127.0.0.1:10000\n" in text
    assert "    peer balancer-02 [2001:db8:113::20]:10000\n" in text
    _, _, frontend = text.partition("frontend peers\n")
    assert frontend.startswith("    bind 203.0.113.10:10000\n")
    assert (
        "    tcp-request connection reject unless { src 2001:db8:113::20 203.0.113.30 }\n"
    ) in frontend
    assert "    server here 127.0.0.1:10000\n" in frontend


def test_a_balancer_without_others_is_reached_by_itself_alone() -> None:
    text = haproxy(("203.0.113.10",))
    assert "    peer balancer-01 127.0.0.1:10000\n" in text
    assert "frontend peers" not in text


@pytest.mark.parametrize(("length", "bucket"), [(46, 0), (47, 128), (110, 128), (111, 256)])
def test_names_that_nginx_has_no_room_for_are_given_some(length: int, bucket: int) -> None:
    name = f"{'a' * 30}.{'b' * (length - 43)}.example.org"
    assert len(name) == length
    made = fleet(names=("www.example.com", name))
    files = templates.nginx(made, made.backends[0], http2_directive=True)
    line = f"server_names_hash_bucket_size {bucket};\n"
    assert (line in files["conf.d/certsync-balancers.conf"]) is bool(bucket)
    own = templates.nginx(made, made.backends[0], http2_directive=True, own_bucket=True)
    assert "server_names_hash" not in "".join(own.values())


def test_a_key_exchange_that_outlives_quantum_computers_is_offered_where_openssl_has_it() -> None:
    made = fleet()
    for knows, groups in (
        (False, "X25519:prime256v1:secp384r1"),
        (True, "X25519MLKEM768:X25519:prime256v1:secp384r1"),
    ):
        files = templates.nginx(made, made.issuer, http2_directive=True, hybrid_group=knows)
        text = files[f"snippets/ssl-{made.name}.conf"]
        assert f"\nssl_ecdh_curve {groups};\n" in text
        assert text.count("MLKEM") == knows

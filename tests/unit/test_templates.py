"""What is written into the configurations of HAProxy and nginx, by a fleet's size and its hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from certsync import templates
from certsync.fleet import Machine
from certsync.gate import Gate
from certsync.options import Balancing, Stickiness
from deploy import backend
from tests.unit.fake_fleet import fleet

STICKY = Balancing(stickiness=Stickiness.SOURCE)
GATE = Gate(True, {}, {"backend-01": True, "backend-02": True, "backend-03": True})


def haproxy(addresses: tuple[str, ...]) -> str:
    balancers = tuple(
        Machine(f"balancer-0{number}", address, address)
        for number, address in enumerate(addresses, start=1)
    )
    members = dict.fromkeys(GATE.web, True)
    gate = Gate(True, members, members, dict.fromkeys(members, 0))
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
        text = files[f"snippets/ssl-{made.lineage}.conf"]
        assert f"\nssl_ecdh_curve {groups};\n" in text
        assert text.count("MLKEM") == knows


AND_MORE = "\nTLS SNI support enabled\nconfigure arguments: --with-cc-opt='-g -O2'\n"


@pytest.mark.parametrize(
    ("version", "built", "nginx", "openssl"),
    [
        ("1.22.1", "OpenSSL 3.0.11 19 Sep 2023 (running with OpenSSL 3.0.17 1 Jul 2025)",
         (1, 22, 1), (3, 0, 17)),
        ("1.26.3", "OpenSSL 3.4.1 11 Feb 2025 (running with OpenSSL 3.5.4 30 Sep 2025)",
         (1, 26, 3), (3, 5, 4)),
        ("1.30.0 (Ubuntu)", "OpenSSL 3.6.0 1 Oct 2025", (1, 30, 0), (3, 6, 0)),
        ("1.28.0", "BoringSSL", (1, 28, 0), ()),
    ],
)  # fmt: skip
def test_the_openssl_that_nginx_runs_with_counts_and_not_the_one_it_was_built_with(
    version: str, built: str, nginx: tuple[int, ...], openssl: tuple[int, ...],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    program = tmp_path / "nginx"
    printed = f"nginx version: nginx/{version}\nbuilt with {built}{AND_MORE}"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'EOF'\n{printed}EOF\n")
    program.chmod(0o755)

    def get_fact(_fact: object, script: str) -> list[str]:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=path)
        return done.stdout.splitlines()

    monkeypatch.setattr(backend, "host", SimpleNamespace(get_fact=get_fact))
    assert backend._version(backend.NGINX) == nginx
    assert backend._version(backend.OPENSSL) == openssl

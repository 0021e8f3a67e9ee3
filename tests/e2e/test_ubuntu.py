"""The main road on hosts like Ubuntu 26.04's: sudo-rs, uutils, servers newer than Debian 13's."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, NAME, Road

NEW = "backend-03"
AS_NEW_AS = {
    "sudo --version": r"sudo-rs 0\.2\.",
    "ls --version": "uutils coreutils",
    "python3 --version": r"Python 3\.1[4-9]",
    "openssl version": r"OpenSSL 3\.([5-9]|\d\d)\.",
    "ssh -V": r"OpenSSH_1\d\.",
    "nginx -v": r"nginx/1\.(29|[3-9]\d)\.",
    "haproxy -v": r"HAProxy version 3\.([2-9]|\d\d)\.",
    "cat /etc/os-release": r'(?ms)^VERSION_ID="26\.04"$.*^ID=ubuntu$',
}
"""Commands, and what they say there."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of two backends that nothing has been deployed to; a third host is there."""
    with bring_up(Lab("ubuntu", suite="forky")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("ubuntu"))
        road.edit(f'[backends.{NEW}]\naddress = "{lab.machine(NEW).address}"\n', "")
        yield road


def test_the_system_is_one_that_certsync_knows(road: Road) -> None:
    ended = road.certsync("check", "--online")
    assert ended.status == 0, ended.everything
    assert "every host is ready" in ended.stdout


def test_a_first_deploy_puts_empty_hosts_into_service(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert road.pages() == {"backend-01", "backend-02"}
    assert road.certsync("status").status == 0


def test_the_hosts_are_what_they_stand_for(road: Road) -> None:
    for command, words in AS_NEW_AS.items():
        machine = road.lab.balancer if command.startswith("haproxy") else road.issuer
        assert re.search(words, machine.sh(command)), command


def test_a_second_deploy_changes_nothing(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr


def test_a_client_that_offers_nothing_but_a_hybrid_key_exchange_is_served(road: Road) -> None:
    client = road.lab.balancer
    (client.root / "srv/roots.pem").write_text(road.lab.ca.roots.read_text())
    ask = "curl -sS --fail --max-time 10 --curves X25519MLKEM768 --tlsv1.3 --cacert /srv/roots.pem"
    assert "backend-0" in client.sh(f"{ask} https://{NAME}/lb.html")
    assert {row["key_exchange"] for row in road.status()["rows"]} == {"X25519MLKEM768"}


def test_a_renewal_is_activated_everywhere(road: Road) -> None:
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert road.generations() == {"backend-01": "0002", "backend-02": "0002"}
    ended = road.renew()
    assert (ended.status, ended.stdout) == (0, "nothing was due\n")


def test_a_backend_joins_and_serves_after_a_reboot(road: Road) -> None:
    new = road.lab.machine(NEW)
    ended = road.as_announced("add-backend", NEW, new.address)
    assert ended.status == 0, ended.everything
    assert road.pages(8) == {"backend-01", "backend-02", NEW}
    before = road.shown_by(new.address)
    new.power_off()
    new.boot()
    new.wait()
    assert road.shown_by(new.address) == before
    assert before == road.shown_by(road.issuer.address)


def test_a_backend_leaves_with_its_keys_deleted(road: Road) -> None:
    ended = road.as_announced("remove-backend", NEW)
    assert ended.status == 0, ended.everything
    assert road.pages() == {"backend-01", "backend-02"}
    assert road.lab.machine(NEW).attempt(f"ls {LINEAGE}")[0] != 0
    assert road.certsync("status").status == 0

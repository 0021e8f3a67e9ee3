"""Hosts that are off, probes that do not get through, disks that are full: the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet whose last backend is switched off before the first deploy."""
    with bring_up(Lab("outage")) as lab:
        yield Road(lab, tmp_path_factory.mktemp("outage"))


def test_a_backend_that_is_off_is_named_and_the_others_go_into_service(road: Road) -> None:
    off = road.replicas[-1]
    off.power_off()
    ended = road.deploy()
    assert ended.status == 1
    assert f"{off.name}: " in ended.stderr.split("error: ")[1]
    assert road.pages() == {"backend-01", "backend-02"}
    status = road.certsync("status")
    assert status.status == 3
    assert f"error: {off.name}: " in status.stderr


def test_one_more_deploy_heals_it_when_it_is_back(road: Road) -> None:
    back = road.replicas[-1]
    back.boot()
    back.wait()
    orders = road.lab.ca.orders()
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert road.pages() == {machine.name for machine in road.lab.backends}
    assert road.lab.ca.orders() == orders


def test_with_the_probes_interrupted_the_rule_and_the_pool_stay_as_they_are(road: Road) -> None:
    before = road.haproxy_cfg()
    road.issuer.sh("iptables -I OUTPUT -p tcp --dport 443 -j DROP")
    try:
        ended = road.deploy()
    finally:
        road.issuer.sh("iptables -D OUTPUT -p tcp --dport 443 -j DROP")
    assert ended.status == 1
    assert "backend-02" in ended.stderr
    assert road.haproxy_cfg() == before
    assert road.pages() == {machine.name for machine in road.lab.backends}


def test_a_full_disk_on_a_replica_refuses_a_new_generation_and_the_old_one_is_served(
    road: Road,
) -> None:
    replica = road.replicas[0]
    before = road.shown_by(replica.address)
    # Its inbox is on a file system of its own that is full.
    replica.sh(
        "mount -t tmpfs -o size=64k,uid=certsync,gid=certsync,mode=700 full "
        "/var/lib/certsync-receive/inbox && "
        "dd if=/dev/zero of=/var/lib/certsync-receive/inbox/.fill bs=1k 2>/dev/null || :"
    )
    try:
        road.edit("[ca]\n", '[certificate]\nkey_type = "ecdsa-p384"\n\n[ca]\n')
        ended = road.deploy()
    finally:
        replica.sh("umount /var/lib/certsync-receive/inbox")
    assert ended.status == 1
    assert f"{replica.name}: " in ended.stderr
    assert road.shown_by(replica.address) == before
    assert road.current(road.issuer) == "0002"
    assert NAME in road.fleet_file.read_text()


def test_the_next_deploy_brings_the_replica_up_to_the_others(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert {road.current(machine) for machine in road.lab.backends} == {"0002"}
    assert road.lab.ca.orders() == orders


def test_an_issuer_that_lost_everything_of_ours_is_set_up_again_and_numbers_on(
    road: Road,
) -> None:
    highest = max(road.current(machine) for machine in road.replicas)
    road.issuer.sh("rm -rf /etc/certsync /var/lib/certsync /var/lib/certsync-push /opt/certsync")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    after = {road.current(machine) for machine in road.lab.backends}
    assert after == {f"{int(highest) + 1:04}"}


def fail_for_the_certificate(road: Road) -> None:
    """Let every member's check fail: the balancer trusts another CA than the fleet's."""
    other = "-days 1 -nodes -subj /CN=other -keyout /dev/null"
    road.lab.balancer.sh(
        f"openssl req -x509 -newkey rsa:2048 {other} -out /etc/haproxy/certsync-roots.pem "
        "2>/dev/null && systemctl reload haproxy && sleep 4"
    )


def test_when_all_fail_for_the_certificate_they_share_traffic_goes_on(road: Road) -> None:
    fail_for_the_certificate(road)
    status = road.certsync("status")
    assert status.status == 3
    assert "backend-01: not in the pool: down: " in status.stderr
    assert road.pages() == {machine.name for machine in road.lab.backends}


def test_with_refuse_it_does_not_and_a_deploy_mends_it(road: Road) -> None:
    road.edit("[balancing]\n", '[balancing]\non_certificate_failure = "refuse"\n')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    fail_for_the_certificate(road)
    assert road.page() == ""
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert road.pages() == {machine.name for machine in road.lab.backends}


def test_with_the_issuer_out_of_reach_status_tells_what_is_seen_from_here(road: Road) -> None:
    road.issuer.cut()
    try:
        ended = road.certsync("status")
    finally:
        road.issuer.join()
    assert ended.status == 3
    assert "seen from this machine only: the issuer cannot be asked" in ended.stdout
    assert "error: backend-01: it does not answer" in ended.stderr
    assert "backend-02: clients trust it; only the issuer knows which generation it is" in (
        ended.stderr
    )


def test_a_second_operator_is_told_who_holds_the_lock(road: Road) -> None:
    holder = road.issuer.sh(
        "nohup python3 -c 'import sys; sys.path.insert(0, sys.argv[1]); "
        "import os; os.environ.clear(); "
        "from certsync.programs import lock; import time; "
        'exec("with lock.hold(\\"somebody else\\"): time.sleep(60)")\' '
        "/opt/certsync/current/lib/python3*/site-packages >/dev/null 2>&1 & echo $!; sleep 1"
    ).strip()
    try:
        ended = road.deploy()
    finally:
        road.issuer.sh(f"kill {holder}")
    assert ended.status == 75
    assert "error: somebody else has held the fleet lock for " in ended.stderr
    assert "hint: wait for it to end, then run the same command again" in ended.stderr

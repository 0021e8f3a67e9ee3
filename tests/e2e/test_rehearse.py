"""A rehearsal on real hosts: end to end, and nothing is other than before, however it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from certsync.programs import command
from lab import Lab
from lab.world import CHECKOUT
from tests.e2e.conftest import BringUp
from tests.e2e.road import Ended, Road, state

FOLDER = "/run/certsync-rehearsal"
INBOX = "/var/lib/certsync-receive/inbox"
RECEIVED = "received with rsync, then checked by its receiver and by nginx"
TESTED = "haproxy -c of what the next deploy would write"


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet that is not deployed, and whose CA takes some seconds to look."""
    with bring_up(Lab("rehearse")) as lab:
        slow = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "3"}
        lab.ca.restart({"PEBBLE_AUTHZREUSE": "0", **slow})
        yield Road(lab, tmp_path_factory.mktemp("rehearse"))


@pytest.fixture(autouse=True)
def nothing_is_left(road: Road, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which any host is other than before."""
    if "deployed" not in request.node.name:
        before, memory = state(road.lab), road.memory()
        yield
        assert state(road.lab) == before
        assert road.memory() == memory
    else:
        yield


def rehearse(road: Road, *options: str) -> Ended:
    return road.certsync("rehearse", "--directory", road.lab.ca.directory, *options)


def told(ended: Ended) -> set[tuple[str, str]]:
    """Return each host and what was told of it."""
    lines = [line.partition("  ") for line in ended.stdout.splitlines()]
    return {(host, words.strip()) for host, _, words in lines}


def test_a_fleet_that_was_never_deployed_is_told_so(road: Road) -> None:
    before = state(road.lab)
    ended = rehearse(road)
    assert ended.status == 1
    assert "error: backend-01: this fleet has not been deployed" in ended.stderr
    assert "hint: deploy it first: certsync deploy" in ended.stderr
    assert state(road.lab) == before
    ended = road.deploy()
    assert ended.status == 0, ended.everything


def test_a_ca_that_is_not_named_is_not_asked(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.certsync("rehearse")
    assert ended.status == 1
    assert "a test order there may count against its limits" in ended.stderr
    assert "hint: name the CA's test directory with --directory URL" in ended.stderr
    assert road.lab.ca.orders() == orders


def test_the_whole_road_is_walked_and_every_host_is_named(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = rehearse(road)
    assert ended.status == 0, ended.everything
    assert road.lab.ca.orders() == orders + 1
    expected = {
        ("203.0.113.10", "a challenge file, fetched through the balancer over IPv4: ok"),
        ("2001:db8:113::10", "a challenge file, fetched through the balancer over IPv6: ok"),
        ("backend-01", f"an order at {road.lab.ca.directory}: ok"),
        ("backend-01", "checked by nginx: ok"),
        ("backend-02", f"{RECEIVED}: ok"),
        ("backend-03", f"{RECEIVED}: ok"),
        ("balancer", f"{TESTED}: ok"),
    }
    assert expected <= told(ended)
    assert set(road.generations().values()) == {"0001"}
    for machine in road.lab.backends:
        assert machine.sh("ls /etc/certsync/archive/*") == "0000\n0001\n"


def test_an_account_of_its_own_was_used_and_thrown_away(road: Road) -> None:
    assert len(road.issuer.sh("ls /etc/certsync/accounts").split()) == 1
    log = road.lab.ca.log()
    assert log.count("There are now ") >= 2


def test_what_the_lines_of_a_bad_nginx_file_stop_is_told_with_the_host(road: Road) -> None:
    replica = road.replicas[0]
    bad = replica.root / "etc/nginx/conf.d/broken.conf"
    bad.write_text("bogus;\n")
    try:
        before = state(road.lab)
        ended = rehearse(road)
        assert state(road.lab) == before
    finally:
        bad.unlink()
    assert ended.status == 1
    assert ("backend-03", f"{RECEIVED}: ok") in told(ended)
    assert f"error: the rehearsal failed: backend-02: {RECEIVED}: " in ended.stderr
    assert "bogus" in ended.stderr


def balancer_sees(road: Road, word: str) -> None:
    """Wait until the balancer has noticed how the last replica is, by its checks of all pools."""
    stat = "echo show stat | socat -t 5 - /run/haproxy/admin.sock"
    road.lab.balancer.sh(
        f"until [ \"$({stat} | grep ',backend-03,' | grep -c ',{word},')\" = 4 ]; "
        "do sleep 0.2; done",
        timeout=60,
    )


def test_a_replica_out_of_reach_is_told_and_the_others_are_checked(road: Road) -> None:
    replica = road.replicas[1]
    replica.cut()
    try:
        balancer_sees(road, "DOWN")
        ended = rehearse(road, "--json")
    finally:
        replica.join()
        balancer_sees(road, "UP")
    assert ended.status == 1
    assert "backend-03: a challenge file, fetched from its own address: not reached" in ended.stderr
    assert re.search(f"backend-03: {RECEIVED}: (it does not answer|there is no)", ended.stderr)
    assert "backend-02: " not in ended.stderr
    findings = json.loads(ended.stdout)["findings"]
    assert {each["host"] for each in findings if each["why"]} == {"backend-03"}


def test_a_haproxy_cfg_that_haproxy_refuses_is_told_and_not_left_there(road: Road) -> None:
    own = road.folder / "templates/haproxy/haproxy.cfg.j2"
    own.parent.mkdir(parents=True)
    text = (CHECKOUT / "templates/haproxy/haproxy.cfg.j2").read_text()
    own.write_text(text.replace("    daemon\n", "    daemon\n    bogus-keyword\n"))
    try:
        ended = rehearse(road)
    finally:
        own.unlink()
        own.parent.rmdir()
    assert ended.status == 1
    assert f"error: the rehearsal failed: balancer: {TESTED}: " in ended.stderr
    assert "bogus-keyword" in ended.stderr


def test_a_test_of_haproxy_cfg_that_is_ended_half_way_leaves_no_copy(road: Road) -> None:
    testing = command("try_haproxy.sh")
    left = road.lab.balancer.sh(
        f"sleep 2 | timeout 1 {testing}; find /run -name 'certsync-rehearsal*'"
    )
    assert "/run/certsync-rehearsal" not in left


def begun(road: Road) -> subprocess.Popen[bytes]:
    """Return the operator's process of a rehearsal that is in the middle of its order."""
    argv = [*road.lab.operator_argv(), "certsync", "rehearse", str(road.fleet_file),
            "--directory", road.lab.ca.directory]  # fmt: skip
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    webroot = "/var/lib/certsync/webroot/.well-known/acme-challenge"
    road.issuer.sh(
        f"until [ -e {FOLDER}/etc/pending ] && ls {webroot} | grep -v -q canary; "
        "do sleep 0.05; done",
        timeout=60,
    )
    return process


def again(road: Road) -> Ended:
    """Rehearse, as soon as what another one has started on the issuer has ended."""
    end = time.monotonic() + 60
    while (ended := rehearse(road)).status == 75 and time.monotonic() < end:
        time.sleep(1)
    return ended


def test_an_operator_who_is_killed_leaves_nothing_and_the_next_one_goes_through(
    road: Road,
) -> None:
    process = begun(road)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = again(road)
    assert ended.status == 0, ended.everything


def test_what_is_killed_on_the_issuer_is_told_and_cleared_by_the_next_one(road: Road) -> None:
    process = begun(road)
    road.issuer.sh("pkill -9 -f '^/opt/certsync/.*rehearse-here'; sleep 0.2")
    assert process.wait(timeout=60) == 1
    assert road.issuer.sh(f"ls {FOLDER}") != ""
    ended = again(road)
    assert ended.status == 0, ended.everything


def test_while_another_command_changes_the_fleet_nothing_is_rehearsed(road: Road) -> None:
    orders = road.lab.ca.orders()
    process = begun(road)
    ended = rehearse(road)
    assert ended.status == 75
    assert "certsync rehearse by " in ended.stderr
    assert process.wait(timeout=60) == 0
    assert road.lab.ca.orders() == orders + 1

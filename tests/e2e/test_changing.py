"""Backends come and go, and another one issues, while users are on the site."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import KEEP_ALIVE, NEW, Load, Target
from tests.e2e.road import LIVE, NAME, Road

REQUESTS = 10_000
BACKUP = "/root/before"
ACCESS_TIME = re.compile(r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] \"GET /lb.html")


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends, deployed as announced; two more hosts are there."""
    with bring_up(Lab("change", backends=5), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("change"))
        ended = road.as_announced("deploy")
        assert ended.status == 0, ended.everything
        yield road


def address(road: Road, name: str) -> str:
    """Return a backend as `add-backend` takes one of several."""
    return f"{name}={road.lab.machine(name).address}"


def visits(machine: Machine) -> list[datetime]:
    """Return when the page was asked for on a backend, to the second."""
    log = machine.root / "var/log/nginx/access.log"
    found = ACCESS_TIME.findall(log.read_text()) if log.exists() else []
    return [datetime.strptime(each, "%d/%b/%Y:%H:%M:%S %z") for each in found]


def when(machine: Machine, words: str) -> datetime:
    """Return when a line with these words last came into a host's journal."""
    told = machine.sh(f"journalctl -q -o short-unix --no-pager | grep -F {words!r} | tail -n 1")
    assert told, words
    return datetime.fromtimestamp(float(told.split()[0]), timezone.utc)


def names(road: Road) -> set[str]:
    return {machine.name for machine in road.backends}


def test_the_fleet_is_changed_under_load_and_no_request_is_lost(
    road: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, orders = road.lab, road.lab.ca.orders()
    target = Target(NAME, str(lab.ca.roots))
    three = lab.machine("backend-03")
    with Load(
        lab.operator_argv(), NEW, [lab.balancer.address], target, count=REQUESTS, pause=0.03
    ) as load:
        new = ("backend-04", "backend-05")
        ended = road.certsync("add-backend", *(address(road, each) for each in new))
        assert ended.status == 0, ended.everything
        assert lab.ca.orders() == orders
        ended = road.certsync("remove-backend", "backend-03")
        assert ended.status == 0, ended.everything
        ended = road.certsync("promote", "backend-02")
        assert ended.status == 0, ended.everything
        assert lab.ca.orders() == orders
        ended = road.renew("--force")
        assert ended.status == 0, ended.everything
        tally = load.over()
    with capsys.disabled():
        print(f"\n{tally.requests} requests, {tally.failed.total()} failed: {tally.backends}")
    assert tally.failed == {}
    assert tally.retried == 0
    assert tally.watched, "the load ended before the changes"
    assert tally.requests >= REQUESTS
    assert set(tally.backends) == {machine.name for machine in lab.backends}
    assert lab.ca.orders() == orders + 1
    assert set(road.generations().values()) == {"0002"}
    for name in new:
        machine = lab.machine(name)
        # The placeholder would have failed requests; and this says it in time.
        proven = when(machine, f"'activate {NAME} 0001': done")
        assert min(visits(machine)) >= proven.replace(microsecond=0)
    assert max(visits(three)) <= when(three, "Deactivated successfully")
    assert road.pages(12) == names(road) == {"backend-01", "backend-02", "backend-04", "backend-05"}


def test_nothing_is_to_be_changed_after_it(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    told = road.deploy("--dry-run").stdout
    assert told.startswith("nothing would be changed\n"), told


def test_a_removed_backend_keeps_neither_key_nor_certificate_nor_anything_of_ours(
    road: Road,
) -> None:
    left = road.lab.machine("backend-03")
    told = left.sh(
        "find /etc /var/lib /usr/local /opt /root -name '*certsync*' ; getent passwd | "
        "grep certsync || :; grep -rl 'PRIVATE KEY' /etc /var/lib /usr/local /srv "
        "--include 'privkey*' || :; ls -A /etc/nginx/sites-enabled"
    )
    assert told == ""
    assert left.attempt("systemctl is-active nginx")[1] == "inactive\n"
    # The issuer's key opens nothing there any more.
    ssh = (
        "setpriv --reuid certsync-push --regid certsync-push --clear-groups ssh -F none -n -i "
        "/var/lib/certsync-push/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no "
        f"-o UserKnownHostsFile=/dev/null certsync@{left.address} certsync-receiver"
    )
    assert road.issuer.attempt(ssh)[0] == 255
    road.issuer.sh(f"timeout 5 bash -c '< /dev/tcp/{left.address}/22'")


def test_the_old_issuer_has_become_a_replica_with_no_secret_of_an_issuer(road: Road) -> None:
    old = road.lab.machine("backend-01")
    gone = (
        "/etc/certsync/accounts /etc/certsync/issuer /etc/certsync/fleet.json "
        "/var/lib/certsync-push /etc/cron.d/certsync /opt/certsync /var/lib/certsync"
    )
    assert old.attempt(f"ls -d {gone} 2>/dev/null")[1] == ""
    keys = old.sh("cat /var/lib/certsync-receive/.ssh/authorized_keys")
    assert f'from="{road.lab.machine("backend-02").address}"' in keys


def test_add_and_remove_and_promote_do_what_their_dry_runs_announce(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.as_announced("add-backend", "backend-03", road.lab.machine("backend-03").address)
    assert ended.status == 0, ended.everything
    assert road.pages(12) == names(road)
    ended = road.as_announced("promote", "backend-01")
    assert ended.status == 0, ended.everything
    ended = road.as_announced("remove-backend", "backend-05")
    assert ended.status == 0, ended.everything
    assert road.lab.ca.orders() == orders
    ended = road.certsync("deploy", "--json")
    assert '"done": []' in ended.stdout


def test_a_dry_run_of_each_changes_nothing(road: Road) -> None:
    from tests.e2e.road import state

    before, text = state(road.lab), road.fleet_file.read_text()
    assert road.certsync("add-backend", address(road, "backend-05"), "--dry-run").status == 0
    assert road.certsync("remove-backend", "backend-03", "--dry-run").status == 0
    assert road.certsync("promote", "backend-02", "--dry-run").status == 0
    assert road.certsync("leave", "--dry-run").status == 0
    assert state(road.lab) == before
    assert road.fleet_file.read_text() == text


def test_a_connection_that_is_there_may_end_by_itself_before_its_backend_is_gone(
    road: Road,
) -> None:
    leaving = road.lab.machine("backend-04")
    target = Target(NAME, str(road.lab.ca.roots))
    balancer = road.lab.balancer.address
    with Load(road.lab.operator_argv(), KEEP_ALIVE, [balancer], target, pause=0.05) as load:
        started = time.monotonic()
        ended = road.certsync("remove-backend", leaving.name, "--drain-seconds", "5")
        took = time.monotonic() - started
        tally = load.over()
    assert ended.status == 0, ended.everything
    assert tally.watched
    # Kept connections that nobody closes have so long, and then end between two answers.
    assert tally.failed == {}
    assert took < 60
    assert max(visits(leaving)) <= when(leaving, "Deactivated successfully") + timedelta(seconds=1)


def test_the_issuer_the_last_one_and_a_stranger_are_not_removed(road: Road) -> None:
    ended = road.certsync("remove-backend", "backend-01")
    assert ended.status == 1
    assert ended.stderr == (
        "error: backend-01 is the issuer: nobody would renew the certificate; nothing was "
        f"changed\nhint: promote another one first: certsync promote {road.fleet_file} "
        "backend-02\n"
    )
    ended = road.certsync("remove-backend", "backend-09")
    assert f"error: {road.fleet_file} has no backend backend-09" in ended.stderr
    orders = road.lab.ca.orders()
    ended = road.certsync("remove-backend", "backend-09", "--gone", "--compromised")
    assert ended.status == 1
    assert (
        f"error: {road.fleet_file} has no backend backend-09, and none of that name has left it; "
        "nothing was changed"
    ) in ended.stderr
    assert "; those have left: backend-04, backend-05; " in ended.stderr
    assert road.lab.ca.orders() == orders
    issuer = road.issuer
    issuer.sh("systemctl stop nginx")
    road.lab.machine("backend-02").sh("systemctl stop nginx")
    try:
        ended = road.certsync("remove-backend", "backend-03")
    finally:
        issuer.sh("systemctl start nginx")
        road.lab.machine("backend-02").sh("systemctl start nginx")
    assert ended.status == 1
    assert "error: backend-03 is the last backend that serves; nothing was changed" in ended.stderr


def test_an_older_certsync_on_the_issuer_is_not_asked_to_replace_keys(road: Road) -> None:
    current = road.issuer.sh("readlink /opt/certsync/current").strip()
    road.issuer.sh(f"cd /opt/certsync && ln -s {current} 0.0.1-old && ln -sfn 0.0.1-old current")
    try:
        ended = road.certsync("remove-backend", "backend-03", "--compromised")
    finally:
        road.issuer.sh(f"cd /opt/certsync && ln -sfn {current} current && rm 0.0.1-old")
    assert ended.status == 1
    assert ended.stderr == (
        f"error: backend-01 has certsync 0.0.1-old, and this machine {current}; nothing was "
        "changed\nhint: bring this one there first: certsync deploy FLEET\n"
    )


def test_while_a_balancer_is_out_of_reach_nobody_is_removed(road: Road) -> None:
    balancer = road.lab.balancer
    balancer.sh("systemctl stop ssh")
    try:
        ended = road.certsync("remove-backend", "backend-03")
    finally:
        balancer.sh("systemctl start ssh")
    assert ended.status == 1
    assert ended.stderr.startswith(
        "error: balancer: nothing listens for SSH; it would send backend-03 connections still, so "
        "nothing was changed\n"
    )


def test_a_removal_that_failed_at_the_balancer_takes_nothing_and_a_deploy_takes_it_back(
    road: Road,
) -> None:
    from tests.e2e.road import state

    leaving = road.lab.machine("backend-03")
    before = state(road.lab)[leaving.name]
    haproxy = "/usr/sbin/haproxy"
    # What tests a configuration refuses; who is drained stays so.
    road.lab.balancer.sh(f"mount --bind /bin/false {haproxy}")
    try:
        ended = road.certsync("remove-backend", leaving.name)
    finally:
        road.lab.balancer.sh(f"umount {haproxy}")
    assert ended.status == 1
    assert (
        "backend-01: The balancers have let it go: balancer did not let it go: nothing is changed "
        "here"
    ) in ended.stderr
    assert state(road.lab)[leaving.name] == before
    assert "drained: `certsync deploy` takes it back" in road.certsync("status").stdout
    ended = road.as_announced("deploy")
    assert ended.status == 0, ended.everything
    assert '"what": "Members take connections"' in ended.stdout
    assert leaving.name in road.pages(12)
    assert '"done": []' in road.certsync("deploy", "--json").stdout


def test_an_older_fleet_file_is_refused_with_what_to_do(road: Road) -> None:
    text = road.fleet_file.read_text()
    try:
        road.edit('[backends.backend-03]\naddress = "203.0.113.13"\n', "")
        ended = road.deploy()
        assert ended.status == 1
        assert (
            "backend-01: the issuer knows backend-03, and the fleet file does not\n"
            "  hint: pull the newer fleet file, or take it out with `certsync remove-backend`"
        ) in ended.stderr
        ended = road.certsync("promote", "backend-02")
        assert (
            "error: the fleet file says something else than what is deployed: "
            "backends.backend-03; nothing was changed"
        ) in ended.stderr
        road.fleet_file.write_text(text.replace('issuer = "backend-01"', 'issuer = "backend-02"'))
        ended = road.deploy()
        assert ended.status == 1
        assert (
            "backend-01: it is this fleet's issuer, and the fleet file names backend-02\n"
            "  hint: pull the newer fleet file, or have the other one take over: "
            "certsync promote FLEET backend-02"
        ) in ended.stderr
    finally:
        road.fleet_file.write_text(text)


def test_a_backend_is_gone_for_good_and_the_person_is_told_of_its_key(road: Road) -> None:
    gone = road.lab.machine("backend-03")
    road.issuer.sh(f"mkdir {BACKUP} && cd /etc/certsync && cp fleet.json machines {BACKUP}/")
    gone.power_off()
    ended = road.certsync("remove-backend", gone.name)
    assert ended.status == 1
    assert "If it is gone for good, add --gone: its key then stays on it" in ended.stderr
    ended = road.certsync("remove-backend", gone.name, "--gone")
    assert ended.status == 0, ended.everything
    assert (
        f"warning: the certificate's private key is still on {gone.name}; if somebody else may get "
        "at it, replace the key and have the certificate revoked: certsync remove-backend "
        f"{road.fleet_file} {gone.name} --gone --compromised"
    ) in ended.stderr
    assert gone.name not in names(road)


def test_what_an_issuer_restored_from_a_backup_still_knows_is_taken_out_again(road: Road) -> None:
    gone, text = road.lab.machine("backend-03"), road.fleet_file.read_text()
    road.issuer.sh(f"cp {BACKUP}/* /etc/certsync/")
    ended = road.deploy()
    assert ended.status == 1
    assert "backend-01: the issuer knows backend-03, and the fleet file does not" in ended.stderr
    ended = road.certsync("remove-backend", gone.name)
    assert ended.status == 1
    assert "If it is gone for good, add --gone: its key then stays on it" in ended.stderr
    assert road.as_announced("remove-backend", gone.name, "--gone").status == 0
    assert road.fleet_file.read_text() == text
    assert gone.name not in road.issuer.sh("cat /etc/certsync/machines")
    ended = road.deploy()
    assert ended.status == 0, ended.everything


def test_a_backend_that_was_taken_out_of_the_fleet_file_by_hand_is_removed_as_any(
    road: Road,
) -> None:
    text, taken = road.fleet_file.read_text(), road.lab.machine("backend-04")
    ended = road.certsync("add-backend", taken.name, taken.address)
    assert ended.status == 0, ended.everything
    road.fleet_file.write_text(text)
    ended = road.certsync("remove-backend", taken.name, "--gone")
    assert ended.status == 1
    assert "error: backend-04 answers over SSH: nothing was changed" in ended.stderr
    ended = road.certsync("remove-backend", taken.name)
    assert ended.status == 0, ended.everything
    assert taken.attempt("ls /etc/certsync")[0] != 0
    assert taken.name not in road.haproxy_cfg()
    assert road.fleet_file.read_text() == text
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr


def test_its_key_is_replaced_and_its_certificate_revoked_under_load(
    road: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = road.lab
    old = road.issuer.sh(f"openssl x509 -in {LIVE}/cert.pem -noout -serial").strip().split("=")[1]
    spki = f"openssl x509 -in {LIVE}/cert.pem -noout -pubkey"
    key = road.issuer.sh(spki)
    orders = lab.ca.orders()
    target = Target(NAME, str(lab.ca.roots))
    with Load(lab.operator_argv(), NEW, [lab.balancer.address], target, pause=0.03) as load:
        ended = road.certsync("remove-backend", "backend-03", "--gone", "--compromised")
        tally = load.over()
    with capsys.disabled():
        print(f"\n{tally.requests} requests, {tally.failed.total()} failed")
    assert ended.status == 0, ended.everything
    assert tally.watched
    assert tally.failed == {}
    assert lab.ca.orders() == orders + 1
    assert lab.ca.status_of(int(old, 16))["Status"] == "Revoked"
    for machine in road.backends:
        assert machine.sh(spki) != key
        kept = machine.sh(f"ls /etc/certsync/archive/{NAME}").split()
        assert kept == ["0000", road.current(machine)]
    # The same command again does nothing more.
    ended = road.certsync("remove-backend", "backend-03", "--gone", "--compromised")
    assert ended.status == 0, ended.everything
    assert lab.ca.orders() == orders + 1


def test_until_its_keys_are_replaced_who_has_left_gets_no_key_though_it_is_named_again(
    road: Road,
) -> None:
    stolen = road.lab.machine("backend-04")
    ended = road.certsync("add-backend", stolen.name, stolen.address)
    assert ended.status == 0, ended.everything
    text, old = road.fleet_file.read_text(), road.current(road.issuer)
    road.lab.ca.machine.cut()
    try:
        ended = road.certsync("remove-backend", stolen.name, "--compromised")
    finally:
        road.lab.ca.machine.join()
    assert ended.status == 1
    assert "error: backend-04 has left; its keys are not all replaced yet: " in ended.stderr
    assert stolen.name not in names(road)
    compromise = json.loads(road.on_issuer("prove", "--json").stdout)["compromise"]
    assert compromise.startswith("keys that backend-04 may hold are not all replaced yet")
    road.fleet_file.write_text(text)
    ended = road.deploy()
    assert ended.status == 1
    assert "backend-04: it is in the fleet again, and keys that it may hold are not all" in (
        ended.stderr
    )
    assert stolen.sh(f"ls /etc/certsync/archive/{NAME}") == "0000\n"
    assert stolen.name not in road.pages(12)
    ended = road.certsync("remove-backend", stolen.name, "--compromised")
    assert ended.status == 0, ended.everything
    assert old not in road.issuer.sh(f"ls /etc/certsync/archive/{NAME}").split()


def test_after_certsync_has_left_the_site_is_served_and_nothing_of_ours_runs(road: Road) -> None:
    ended = road.as_announced("leave")
    assert ended.status == 0, ended.everything
    assert '"what": "Deactivate the account"' in ended.stdout
    assert road.pages() == names(road)
    for machine in road.backends:
        told = machine.sh(
            "find /etc/cron.d /etc/systemd /etc/sudoers.d /usr/local /opt /var/lib "
            "-name '*certsync*' ! -name certsync-site; getent passwd | grep certsync || :; "
            "ps -eo args | grep '[c]ertsync-\\|[c]ertsync/' | grep -v ^find || :; ls /etc/certsync"
        )
        assert told == "archive\nlive\n"
        machine.sh("systemctl restart nginx")
    road.lab.balancer.sh("systemctl restart haproxy")
    assert road.page() in names(road)
    status = road.certsync("status")
    assert "certsync does not answer there" in status.stderr

"""Backends come and go, and another one issues, while users are on the site."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import KEEP_ALIVE, NEW, Load, Target
from tests.e2e.road import NAME, Road

REQUESTS = 10_000
ACCESS_TIME = re.compile(r"\[(\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] \"GET /lb.html")


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service; two more hosts are there."""
    with bring_up(Lab("change", backends=5), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("change"))
        ended = road.deploy()
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


def test_a_stranger_is_not_called_compromised_and_those_who_have_left_are_named(
    road: Road,
) -> None:
    orders = road.lab.ca.orders()
    ended = road.certsync("remove-backend", "backend-09", "--gone", "--compromised")
    assert ended.status == 1
    assert (
        f"error: {road.fleet_file} has no backend backend-09, and none of that name was "
        "removed; nothing was changed"
    ) in ended.stderr
    assert "; removed earlier: backend-04, backend-05; " in ended.stderr
    assert road.lab.ca.orders() == orders


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

"""What may stand in a new backend's way: each is told, and the fleet stays as it was or goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import Ended, Road

NEW = "backend-04"


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service; a fourth host is there."""
    with bring_up(Lab("join", backends=4), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("join"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


@pytest.fixture
def new(road: Road) -> Machine:
    """Return the host that is to join."""
    return road.lab.machine(NEW)


def add(road: Road, *options: str) -> Ended:
    return road.certsync("add-backend", NEW, road.lab.machine(NEW).address, *options)


@contextmanager
def everything_stays(road: Road) -> Iterator[None]:
    """Fail unless the fleet file, the pools and the CA are as they were."""
    before = road.fleet_file.read_text(), road.haproxy_cfg(), road.lab.ca.orders()
    yield
    assert (road.fleet_file.read_text(), road.haproxy_cfg(), road.lab.ca.orders()) == before
    assert road.pages() == {"backend-01", "backend-02", "backend-03"}


Change = Callable[[Road, Machine], None]


def off(_road: Road, machine: Machine) -> None:
    machine.power_off()


def on(_road: Road, machine: Machine) -> None:
    machine.boot()
    machine.wait()


def another_host_key(_road: Road, machine: Machine) -> None:
    # sshd reads its keys when it starts.
    machine.sh(
        "mkdir /root/keys && mv /etc/ssh/ssh_host_* /root/keys && ssh-keygen -A "
        "&& systemctl restart ssh"
    )


def its_own_host_key(_road: Road, machine: Machine) -> None:
    keys = machine.root / "etc/ssh"
    for made in keys.glob("ssh_host_*"):
        made.unlink()
    for kept in (machine.root / "root/keys").iterdir():
        kept.rename(keys / kept.name)
    # No one gets in by SSH now, so it is its next start that reads them.
    machine.power_off()
    machine.boot()
    machine.wait()


def shell(command: str) -> Change:
    def change(_road: Road, machine: Machine) -> None:
        machine.sh(command)

    return change


def within(path: str, before: str, after: str) -> Change:
    """Return what replaces words in a file of the host from outside: sudo may not work there."""

    def change(_road: Road, machine: Machine) -> None:
        file = machine.root / path
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))

    return change


CASES: dict[str, tuple[Change, Change, str]] = {
    "it is down": (off, on, "is it up"),
    "it has another host key": (
        another_host_key, its_own_host_key, f"{NEW}: its SSH host key has changed"
    ),
    "there is no sudo": (
        within("etc/sudoers.d/admin", "NOPASSWD: ALL", "/bin/false"),
        within("etc/sudoers.d/admin", "/bin/false", "NOPASSWD: ALL"),
        f"{NEW}: admin cannot become root",
    ),
    "its system is not known": (
        shell("sed -i.was 's/^ID=debian/ID=gentoo/' /etc/os-release"),
        shell("sed -i 's/^ID=gentoo/ID=debian/' /etc/os-release"),
        f"{NEW}: it runs gentoo 13, which certsync does not support",
    ),
    "port 443 is taken": (
        shell("systemd-run -q --collect --unit squatter python3 -m http.server 443"),
        shell("systemctl stop squatter"),
        f"{NEW}: port 443 is in use by python3 (process ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_a_host_that_is_not_fit_is_told_and_nothing_is_changed(
    road: Road, new: Machine, case: str
) -> None:
    break_it, mend_it, words = CASES[case]
    with everything_stays(road):
        break_it(road, new)
        try:
            ended = add(road)
        finally:
            mend_it(road, new)
    assert ended.status == 1
    told = f"error: nothing was changed on any host or in {road.fleet_file}:\n{NEW}: "
    assert told in ended.stderr
    assert words in ended.stderr
    assert "hint: " in ended.stderr


def test_a_dry_run_tells_the_same(road: Road, new: Machine) -> None:
    new.sh("systemd-run -q --collect --unit squatter python3 -m http.server 443")
    try:
        ended = road.certsync("add-backend", NEW, new.address, "--dry-run")
    finally:
        new.sh("systemctl stop squatter")
    assert ended.status == 1
    assert f"{NEW}: port 443 is in use by python3" in ended.stderr


def test_what_was_edited_and_not_deployed_is_not_carried_out_half(road: Road) -> None:
    text = road.fleet_file.read_text()
    road.edit("[ca]\n", '[certificate]\nkey_type = "ecdsa-p384"\n\n[ca]\n')
    with everything_stays(road):
        ended = add(road)
    road.fleet_file.write_text(text)
    assert ended.status == 1
    assert (
        "error: the fleet file differs from what is deployed: certificate; nothing "
        "was changed\nhint: pull the newer fleet file, or deploy this one first: "
        "certsync deploy FLEET\n"
    ) in ended.stderr


def test_a_name_or_an_address_of_the_fleet_is_not_added_again(road: Road) -> None:
    with everything_stays(road):
        ended = road.certsync("add-backend", "backend-02", "203.0.113.99")
        assert ended.status == 1
        assert f"error: backend-02 is already in {road.fleet_file}, at 203.0.113.12" in ended.stderr
        ended = road.certsync("add-backend", NEW, "203.0.113.12")
        assert ended.status == 2
        assert '"203.0.113.12" is also backends.backend-02.address' in ended.stderr


def test_two_operators_at_once_do_not_meet(road: Road) -> None:
    with everything_stays(road):
        argv = [*road.lab.operator_argv(), sys.executable, "-m", "certsync"]
        held = [*argv, "deploy", str(road.fleet_file)]
        first = subprocess.Popen(held, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert first.stderr is not None
        # By its first phase it holds the lock.
        line = first.stderr.readline()
        assert line.startswith("1 of 6"), line
        # It would be over before the second one asks for it.
        first.send_signal(signal.SIGSTOP)
        try:
            ended = add(road)
        finally:
            first.send_signal(signal.SIGCONT)
            first.communicate(timeout=300)
    assert first.returncode == 0
    assert ended.status == 75
    assert "error: certsync deploy by " in ended.stderr
    assert " has held the fleet lock for " in ended.stderr


def test_a_renewal_that_runs_is_waited_out_by_nobody_and_mixes_nothing(road: Road) -> None:
    road.spare_the_ca_a_serial()
    # As cron would: the two start at the same moment.
    road.issuer.sh("systemd-run -q --collect --unit hourly /usr/local/bin/certsync renew --force")
    ended = add(road)
    while road.issuer.attempt("systemctl is-active hourly")[1] == "active\n":
        pass
    assert ended.status in (0, 75), ended.everything
    if ended.status == 75:
        assert "error: certsync renew (process " in ended.stderr
        assert NEW not in road.fleet_file.read_text()
    else:
        assert road.certsync("remove-backend", NEW).status == 0
    assert len(set(road.generations().values())) == 1


def test_a_disk_that_fills_up_on_the_way_leaves_it_out_of_the_pools_and_is_gone_on_from(
    road: Road, new: Machine
) -> None:
    # Found only when it is written to: what `check` sees of the disk has room.
    new.sh(
        "mkdir -p /etc/certsync && mount -t tmpfs -o size=4k full /etc/certsync "
        "&& dd if=/dev/zero of=/etc/certsync/.fill bs=1k 2>/dev/null || :"
    )
    orders = road.lab.ca.orders()
    try:
        ended = add(road)
    finally:
        new.sh("umount /etc/certsync")
    assert ended.status == 1
    assert f"{NEW}: " in ended.stderr.split("error: ")[1]
    assert "run the same command again" in ended.stderr
    cfg = road.haproxy_cfg()
    assert all(line.endswith(" disabled") for line in cfg.splitlines() if f"server {NEW} " in line)
    assert road.pages() == {"backend-01", "backend-02", "backend-03"}
    # Nor does a site of somebody else's stand in the way of a person who says so.
    new.sh("echo 'server { listen 8080; }' > /etc/nginx/sites-enabled/theirs")
    ended = add(road)
    assert ended.status == 1
    assert f"{NEW}: /etc/nginx/sites-enabled/theirs is an nginx site" in ended.stderr
    ended = add(road, "--adopt-nginx", "--adopt-haproxy")
    assert ended.status == 0, ended.everything
    assert len(new.sh("find /var/backups/certsync -name theirs").split()) == 1
    assert road.pages(8) == {"backend-01", "backend-02", "backend-03", NEW}
    assert road.lab.ca.orders() == orders

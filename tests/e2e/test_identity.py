"""Which machine is the issuer: copies of its disk, and an issuer put back to earlier days."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW as NEW_CONNECTIONS
from tests.e2e.load import Load, Target
from tests.e2e.road import NAME, Ended, Road

NEW = "backend-04"
OF_ITS_OWN = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "home/admin", "root/.ssh")
"""What a copy of a machine gets anew from whoever boots it."""

ISSUING = (
    "/etc/certsync/accounts", "/etc/certsync/issuer", "/etc/certsync/fleet.json",
    "/etc/cron.d/certsync", "/var/lib/certsync-push", "/var/lib/certsync/state.json",
)  # fmt: skip
"""What makes a machine the issuer."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service; a fourth host is there."""
    with bring_up(Lab("identity", backends=4), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("identity"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def copy_disk(source: Path, target: Path) -> None:
    """Make a folder equal to another one, but for what is a machine's own."""
    kept = [f"--exclude=/{each}" for each in OF_ITS_OWN]
    subprocess.run(
        ["rsync", "-aHAX", "--delete", "--exclude=/proc/*", "--exclude=/sys/*", *kept,
         f"{source}/", f"{target}/"],
        check=True, timeout=300,
    )  # fmt: skip


def boot(machine: Machine) -> None:
    machine.boot()
    machine.wait()


def served_serial(machine: Machine) -> str:
    """Return the serial number of what a machine's server shows, seen on the machine."""
    return machine.sh(
        f"openssl s_client -connect 127.0.0.1:443 -servername {NAME} < /dev/null 2> /dev/null "
        "| openssl x509 -noout -serial"
    )


def epoch_of(machine: Machine, path: str) -> str:
    return machine.sh(f"sed -n 's/^[# ]*epoch \\([0-9]*\\) of .*/\\1/p' {path}").strip()


def epochs(road: Road) -> dict[str, str]:
    """Return which issuer's epoch each backend knows of; the issuer its own."""
    keys = "/var/lib/certsync-receive/.ssh/authorized_keys"
    return {
        each.name: epoch_of(each, "/etc/certsync/issuer" if each == road.issuer else keys)
        for each in (road.issuer, *road.replicas)
    }


@pytest.fixture(scope="module")
def copied(road: Road) -> Machine:
    """Return a machine with a copy of the issuer's disk, beside the issuer."""
    new, issuer = road.lab.machine(NEW), road.issuer
    for machine in (new, issuer):
        machine.power_off()
    copy_disk(issuer.root, new.root)
    known = road.lab.folder / "known_hosts"
    lines = known.read_text().splitlines()
    kept = [line for line in lines if not line.split()[0].startswith(new.address)]
    keys = [
        (new.root / f"etc/ssh/ssh_host_{kind}_key.pub").read_text().split()[:2]
        for kind in ("ed25519", "ecdsa", "rsa")
    ]
    known.write_text("\n".join([*kept, *(f"{new.address} {' '.join(key)}" for key in keys), ""]))
    for machine in (issuer, new):
        boot(machine)
    new.sh("systemctl mask --now cron")
    assert road.certsync("status").status == 0
    return new


def tries_to_renew(machine: Machine) -> tuple[int, str]:
    return machine.attempt("certsync renew --force", timeout=300)


@pytest.mark.parametrize("in_reach", [True, False], ids=["replicas in reach", "nobody in reach"])
def test_a_copy_of_the_issuer_orders_nothing_and_says_that_it_is_one(
    road: Road, copied: Machine, in_reach: bool
) -> None:
    orders = road.lab.ca.orders()
    others = [] if in_reach else [*road.replicas, road.issuer, *road.lab.balancers]
    for machine in others:
        machine.cut()
    try:
        status, output = tries_to_renew(copied)
    finally:
        for machine in others:
            machine.join()
    assert status == 1, output
    assert "this machine is a copy of backend-01, the issuer" in output
    assert "certsync add-backend" in output
    assert road.lab.ca.orders() == orders
    end = time.monotonic() + 30
    # The balancer checks each of them again first.
    while road.pages() != {"backend-01", "backend-02", "backend-03"}:
        assert time.monotonic() < end


def test_add_backend_makes_the_copy_a_replica_and_names_its_host_keys(
    road: Road, copied: Machine
) -> None:
    orders, account = road.lab.ca.orders(), road.issuer.sh("cat /etc/certsync/accounts/*/account*")
    ended = road.certsync("add-backend", NEW, copied.address)
    assert ended.status == 0, ended.everything
    assert "it has the same SSH host keys as" in ended.stderr
    left = copied.sh(f"ls -d {' '.join(ISSUING)} 2> /dev/null || :")
    assert left == ""
    assert road.pages() == {"backend-01", "backend-02", "backend-03", NEW}
    assert road.certsync("status").status == 0
    assert road.lab.ca.orders() == orders
    assert road.issuer.sh("cat /etc/certsync/accounts/*/account*") == account
    again = road.deploy()
    assert again.status == 0, again.everything
    assert "\n0 changes\n" in again.stderr


# The fleet lock


def test_who_loses_the_fleet_lock_begins_no_further_phase(road: Road) -> None:
    before = road.fleet_file.read_text()
    replica = road.replicas[0]
    missing = "/usr/local/lib/certsync/receiver"
    # Its survey waits for another run's script, so the first phase begins after that.
    replica.sh(f"rm {missing}; flock -x /run/certsync-apply.lock sleep 6 > /dev/null 2>&1 &")
    argv = [*road.lab.operator_argv(), "certsync", "deploy", str(road.fleet_file)]
    operator = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    # Its program, as an issuer that restarts would end it.
    road.issuer.sh(
        "until [ -s /run/certsync.holder.json ]; do sleep 0.1; done; "
        "kill $(pgrep -f '[c]ertsync deploy by') || :",
        timeout=60,
    )
    _, said = operator.communicate(timeout=120)
    assert operator.returncode == 75, said
    assert "the fleet lock on backend-01 was lost" in said
    assert replica.attempt(f"test -e {missing}")[0] == 1
    assert road.fleet_file.read_text() == before
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    replica.sh(f"test -e {missing}")


def deploys_as_a_replaced_issuer(road: Road) -> Ended:
    ended = road.deploy()
    assert ended.status == 1, ended.everything
    assert "its epoch as the issuer is 1, but backend-02 accepts the issuer of epoch 3" in (
        ended.everything
    )
    return ended


def test_an_issuer_put_back_to_before_two_promotions_changes_nothing(
    road: Road, tmp_path: Path
) -> None:
    assert set(epochs(road).values()) == {"1"}
    first = road.issuer
    first.power_off()
    copy_disk(first.root, tmp_path)
    boot(first)
    for name in ("backend-02", "backend-01"):
        ended = road.certsync("promote", name)
        assert ended.status == 0, ended.everything
    assert set(epochs(road).values()) == {"3"}
    first.power_off()
    copy_disk(tmp_path, first.root)
    boot(first)
    orders, generations = road.lab.ca.orders(), road.generations()
    accounts = first.sh("ls /etc/certsync/accounts")
    status, output = tries_to_renew(first)
    assert status == 1, output
    assert "push key: nothing was ordered or activated" in output
    deploys_as_a_replaced_issuer(road)
    assert (road.lab.ca.orders(), road.generations()) == (orders, generations)
    assert first.sh("ls /etc/certsync/accounts") == accounts


def test_a_promotion_makes_it_the_issuer_again_with_a_later_epoch(road: Road) -> None:
    ended = road.certsync("promote", "backend-01")
    assert ended.status == 0, ended.everything
    assert set(epochs(road).values()) == {"4"}
    again = road.deploy()
    assert again.status == 0, again.everything
    assert "\n0 changes\n" in again.stderr
    assert road.renew().status == 0
    assert road.certsync("status").status == 0


# Clients


def test_ten_thousand_requests_are_served_over_a_promotion_without_the_issuer_and_revoked_keys(
    road: Road,
) -> None:
    lab, dead = road.lab, road.issuer
    replica = road.replicas[-1]
    replica.sh("tar -C / -cf /root/backup.tar etc/certsync")
    dead.kill()
    end = time.monotonic() + 30
    while road.pages() != {"backend-02", "backend-03", NEW}:
        assert time.monotonic() < end
    target = Target(NAME, str(lab.ca.roots))
    with Load(
        lab.operator_argv(),
        NEW_CONNECTIONS,
        [lab.balancer.address],
        target,
        count=10_000,
        pause=0.01,
    ) as load:
        promoted = road.certsync("promote", "backend-02", "--old-is-dead")
        removed = road.certsync("remove-backend", dead.name, "--gone", "--compromised")
        # Restored from a backup with the revoked key: it boots with that, and knows of nothing.
        old = "etc/certsync/live etc/certsync/archive"
        replica.sh(f"cd / && rm -rf {old} && tar -xf root/backup.tar")
        replica.power_off()
        boot(replica)
        booted = time.monotonic()
        replica.sh("until curl --silent --insecure --output /dev/null https://127.0.0.1; "
                   "do sleep 0.2; done")  # fmt: skip
        serves = served_serial(replica)
        healed = road.renew()
        healed_after = time.monotonic() - booted
        tally = load.over()
    for ended in (promoted, removed, healed):
        assert ended.status == 0, ended.everything
    assert tally.watched
    assert tally.requests >= 10_000
    assert tally.failed == {}
    # The old one, and the one that took its place.
    assert len(tally.all_leaves) == 2
    # A replica cannot know that its key was revoked; the next run, at most an hour later, does.
    assert serves != served_serial(replica) == served_serial(road.issuer)
    print(f"{tally.requests} requests; the restored replica was healed {healed_after:.1f} s later")

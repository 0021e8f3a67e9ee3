"""Compromised keys, and a host that is no longer the issuer: what the issuer does."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certsync.issuer.steps import COMPROMISE, Step
from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import LINEAGE, NAME, Ended, Road

PLACEHOLDER = "0000"
KILLED = 128 + 9
MARKS = f"/var/lib/certsync/compromised-{NAME}.json"
ACCOUNTS = "/etc/certsync/accounts"
KEYS = "/var/lib/certsync-receive/.ssh/authorized_keys"
NO_WAY_BACK = "OUTPUT -p tcp --dport 80 -d 2001:db8:113::10 -j DROP"
REFUSE = "refuse this issuer's push key: nothing was ordered"

WRAPPER = """
import os, signal, sys
from certsync.issuer import steps
from certsync.main import main

where, backend = sys.argv[1:]
take_it = steps.take

def take(step, work):
    if step.name == where:
        os.kill(os.getpid(), signal.SIGKILL)
    result = take_it(step, work)
    print("took", step.name, flush=True)
    return result

steps.take = take
main(["compromised", "--by", backend])
"""
"""Runs the command and prints the steps that it takes, and is killed before one of them."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet that has renewed once."""
    with bring_up(Lab("issuera"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("issuera"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        ended = road.renew("--force")
        assert ended.status == 0, ended.everything
        yield road


# What is looked at


def kept(machine: Machine) -> list[str]:
    """Return the generations in a backend's archive, the placeholder left out."""
    found = {each.name for each in (machine.root / LINEAGE.lstrip("/")).iterdir()}
    return sorted(found - {PLACEHOLDER})


def certificates(road: Road) -> dict[str, x509.Certificate]:
    """Return the leaves that the issuer keeps, by number."""
    folder = road.issuer.root / LINEAGE.lstrip("/")
    return {
        number: x509.load_pem_x509_certificate((folder / number / "cert.pem").read_bytes())
        for number in kept(road.issuer)
    }


def keys(road: Road) -> list[str]:
    """Return a line of each private key that the issuer keeps, which no other key has."""
    folder = road.issuer.root / LINEAGE.lstrip("/")
    return [
        (folder / number / "privkey.pem").read_text().splitlines()[2]
        for number in kept(road.issuer)
    ]


def public(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def served_keys(road: Road) -> set[bytes]:
    """Return the public keys that openssl is shown by the backends."""
    shown = [road.shown_by(machine.address) for machine in road.lab.backends]
    return {public(x509.load_pem_x509_certificate(pem.encode())) for pem in shown}


def holds(machine: Machine, text: str) -> bool:
    """Return whether any file of a host's that may hold a key has this text."""
    folders = "/etc/certsync /var/lib/certsync* /var/backups /run/certsync*"
    return machine.attempt(f"grep -rqF -e '{text}' {folders} 2>/dev/null")[0] == 0


def revoked(road: Road, leaf: x509.Certificate) -> bool:
    """Return whether the CA says that a key is compromised."""
    status = road.lab.ca.status_of(leaf.serial_number)
    return (status["Status"], status.get("Reason")) == ("Revoked", 1)


def compromised(road: Road, backend: str) -> Ended:
    return road.on_issuer("compromised", "--by", backend)


def all_is_replaced(
    road: Road, before: dict[str, x509.Certificate], lines: list[str], number: str
) -> None:
    """Fail unless nothing is left of some keys, and all backends serve another one."""
    assert {name: revoked(road, leaf) for name, leaf in before.items()} == dict.fromkeys(
        before, True
    )
    assert {machine.name: kept(machine) for machine in road.lab.backends} == {
        machine.name: [number] for machine in road.lab.backends
    }
    served = served_keys(road)
    assert served == {public(certificates(road)[number])}
    assert served.isdisjoint(public(leaf) for leaf in before.values())
    assert not revoked(road, certificates(road)[number])
    for machine in road.lab.backends:
        assert not [line for line in lines if holds(machine, line)]


def following(road: Road) -> str:
    return f"{int(max(kept(road.issuer))) + 1:04}"


# A compromised key


def test_a_backend_of_the_fleet_is_not_called_compromised_while_it_would_get_the_new_key(
    road: Road,
) -> None:
    ended = road.on_issuer("compromised", "--by", "backend-03")
    assert ended.status == 1
    assert "error: backend-03 is still in the fleet, so it would get the new key" in ended.stderr
    assert not (road.issuer.root / MARKS.lstrip("/")).exists()


def test_what_would_be_done_is_told_and_nothing_is_done(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.on_issuer("compromised", "--by", "backend-09", "--dry-run", "--json")
    steps = json.loads(ended.stdout)["steps"]
    assert steps[0] == Step.MARK.value
    assert steps[-1] == f"{Step.DISCARD.value}: generations 0001, 0002"
    assert road.lab.ca.orders() == orders
    assert not (road.issuer.root / MARKS.lstrip("/")).exists()


def test_keys_in_wrong_hands_are_replaced_revoked_and_deleted_and_no_request_is_lost(
    road: Road,
) -> None:
    before, lines, number = certificates(road), keys(road), following(road)
    assert sorted(before) == ["0001", "0002"]
    assert all(holds(machine, lines[-1]) for machine in road.lab.backends)
    target, address = Target(NAME, str(road.lab.ca.roots)), road.lab.balancer.address
    with Load(road.lab.operator_argv(), NEW, [address], target, pause=0.05) as load:
        ended = compromised(road, "backend-09")
        tally = load.over()
    assert ended.status == 0, ended.everything
    assert "revoked generation 0001\nrevoked generation 0002\n" in ended.stdout
    all_is_replaced(road, before, lines, number)
    assert tally.watched
    assert tally.requests > 0
    assert tally.failed == {}


def test_the_same_command_again_does_nothing(road: Road) -> None:
    orders, before = road.lab.ca.orders(), certificates(road)
    ended = compromised(road, "backend-09")
    assert (ended.status, ended.stdout) == (0, "nothing to do\n")
    ended = road.on_issuer("compromised", "--by", "backend-09", "--dry-run", "--json")
    assert json.loads(ended.stdout) == {"steps": []}
    assert road.lab.ca.orders() == orders
    assert certificates(road) == before
    assert road.renew().stdout == "nothing was due\n"


def test_a_compromised_generation_is_not_gone_back_to(road: Road) -> None:
    ended = road.on_issuer("rollback")
    assert ended.status == 1
    assert (
        "error: cannot roll back to generation 0002: the private key of generation 0002 is "
        "compromised: backend-09 may hold it" in ended.stderr
    )
    assert set(road.generations().values()) == {"0003"}


def test_a_replica_that_is_off_holds_back_no_revocation_and_is_cleared_when_it_is_back(
    road: Road,
) -> None:
    before, lines, number = certificates(road), keys(road), following(road)
    away = road.replicas[-1]
    away.cut()
    # The CA is to be led to those that are left.
    road.lab.balancer.sh(
        "for try in $(seq 60); do echo show stat | socat - /run/haproxy/admin.sock "
        "| grep ',backend-03,' | grep -q ',UP' || exit 0; sleep 0.5; done; exit 1"
    )
    try:
        road.issuer.sh(f"ip6tables -I {NO_WAY_BACK}")
        ended = compromised(road, "backend-08")
        road.issuer.sh(f"ip6tables -D {NO_WAY_BACK}")
        assert ended.status == 1
        # A canary that is lost puts off a renewal, and not this.
        assert (
            "warning: a challenge may not reach the issuer: 2001:db8:113::10: not reached"
        ) in ended.stderr
        assert "compromised keys may still be on backend-03: " in ended.stderr
        assert all(revoked(road, leaf) for leaf in before.values())
        assert kept(road.issuer) == kept(road.replicas[0]) == [number]
        ended = road.renew()
        assert ended.status == 1
        assert "compromised keys may still be on backend-03: " in ended.stderr
    finally:
        away.join()
    assert kept(away) == sorted(before)
    ended = road.renew()
    assert ended.status == 0, ended.everything
    all_is_replaced(road, before, lines, number)


@pytest.mark.matrix
@pytest.mark.parametrize("boundary", [each.name for each in COMPROMISE[1:]])
def test_a_run_that_was_killed_is_finished_by_the_next_hourly_run(
    road: Road, boundary: str
) -> None:
    before, lines, number = certificates(road), keys(road), following(road)
    backend = f"backend-of-{boundary.lower().replace('_', '-')}"
    road.spare_the_ca_a_serial()
    command = f"/opt/certsync/current/bin/python - {boundary} {backend}"
    status, told = road.issuer.attempt(command, input=WRAPPER, timeout=300)
    assert status == KILLED, told
    plan = [each.name for each in COMPROMISE]
    assert re.findall(r"(?m)^took (\w+)$", told) == plan[: plan.index(boundary)]
    ended = road.renew()
    assert ended.status == 0, ended.everything
    all_is_replaced(road, before, lines, number)
    ended = compromised(road, backend)
    assert (ended.status, ended.stdout) == (0, "nothing to do\n")


# The fence


CONTENT = "find /etc/certsync -type f -exec sha256sum {} + | sort; find /etc/certsync -type l -ls"


def content(road: Road) -> dict[str, str]:
    """Return all that the backends hold."""
    return {machine.name: machine.sh(CONTENT) for machine in road.lab.backends}


def refuse_the_push_key(machine: Machine) -> None:
    """Let another issuer's key take the place of ours, as a promotion does."""
    machine.sh(
        "rm -f /root/other /root/other.pub; ssh-keygen -q -t ed25519 -N '' -f /root/other && "
        f"cp -p {KEYS} {KEYS}.was && "
        f"sed -i \"s|ssh-ed25519 .*|$(cut -d' ' -f1,2 /root/other.pub)|\" {KEYS}"
    )


def take_it_again(machine: Machine) -> None:
    # sshd answers nobody for a while who was refused too often; a new one has forgotten it.
    machine.sh(f"mv {KEYS}.was {KEYS} && systemctl restart ssh")


def ask_all_next(road: Road) -> None:
    """Have the next hourly run ask all backends what they hold, as one does every day."""
    path = road.issuer.root / "var/lib/certsync/state.json"
    data = json.loads(path.read_text())
    data["lineages"][NAME]["asked_all"] = ""
    path.write_text(json.dumps(data))


def test_an_issuer_whose_push_key_is_refused_orders_nothing_and_changes_nothing(
    road: Road,
) -> None:
    for machine in road.replicas:
        refuse_the_push_key(machine)
    try:
        before, orders = content(road), road.lab.ca.orders()
        # After some of them sshd answers nothing more, and that is no pardon.
        for options in (["--force"], [], ["--force"], [], ["--force"], ["--force"]):
            ask_all_next(road)
            ended = road.renew(*options)
            assert ended.status == 1
            assert f"error: backend-02, backend-03 {REFUSE}" in ended.stderr
            assert "hint: if another backend was promoted, run `certsync promote FLEET " in (
                ended.stderr
            )
        assert road.lab.ca.orders() == orders
        assert content(road) == before
    finally:
        for machine in road.replicas:
            take_it_again(machine)
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything


def test_one_replica_that_refuses_the_key_is_named_and_left_out_of_a_renewal(road: Road) -> None:
    hardened, other = road.replicas
    orders, before = road.lab.ca.orders(), road.current(hardened)
    hardened.sh("echo 'AllowUsers admin' > /etc/ssh/sshd_config.d/99-hardened.conf")
    hardened.sh("systemctl restart ssh")
    try:
        for _ in range(2):
            ended = road.renew("--force")
            assert ended.status == 1
            assert (
                "backend-02: refuses the push key, but nothing indicates that another backend"
                in ended.stderr
            )
            assert "AllowUsers" in ended.stderr
        assert road.lab.ca.orders() == orders + 2
        assert road.current(hardened) == before
        assert road.current(other) == road.current(road.issuer) > before
    finally:
        hardened.sh("rm /etc/ssh/sshd_config.d/99-hardened.conf; systemctl restart ssh")
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert len(set(road.generations().values())) == 1


def test_full_disks_of_most_backends_hold_back_no_certificate(road: Road) -> None:
    before = road.current(road.issuer)
    for machine in road.replicas:
        machine.sh(
            "mkdir -p /etc/certsync/staging; mount -t tmpfs -o size=4k tmpfs /etc/certsync/staging"
        )
    try:
        ended = road.renew("--force")
        assert ended.status == 1
        assert road.current(road.issuer) > before
        assert {road.current(machine) for machine in road.replicas} == {before}
    finally:
        for machine in road.replicas:
            machine.sh("umount /etc/certsync/staging")
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert len(set(road.generations().values())) == 1


# A restored issuer


BACKUP = "etc/certsync var/lib/certsync"


def put_back(issuer: Machine) -> None:
    """Put the backup in the place of what the issuer holds, as after a restore."""
    issuer.sh("cd / && rm -rf /etc/certsync /var/lib/certsync && tar -xf /root/backup.tar")
    issuer.sh("systemctl reload nginx")


def test_an_issuer_restored_from_a_backup_brings_back_no_older_generation(road: Road) -> None:
    road.issuer.sh(f"tar -C / -cf /root/backup.tar {BACKUP}")
    for _ in range(2):
        assert road.renew("--force").status == 0
    newest, orders = road.current(road.issuer), road.lab.ca.orders()
    put_back(road.issuer)
    before = content(road)
    for _ in range(2):
        ended = road.renew()
        assert ended.status == 1
        assert (
            f"older than what is served: backend-02 serves {newest}, backend-03 serves {newest}\n"
            "hint: if backend-01 was restored from a backup or snapshot, run "
        ) in ended.stderr
        assert (content(road), road.lab.ca.orders()) == (before, orders)
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert len(set(road.generations().values())) == 1
    assert road.current(road.issuer) > newest


def test_nor_a_key_that_was_compromised_since_and_it_replaces_its_own(road: Road) -> None:
    road.issuer.sh(f"tar -C / -cf /root/backup.tar {BACKUP}")
    number = road.current(road.issuer)
    restored = certificates(road)[number]
    ended = compromised(road, "backend-07")
    assert ended.status == 0, ended.everything
    assert revoked(road, restored)
    newest = road.current(road.issuer)
    put_back(road.issuer)
    ended = road.renew()
    # The CA says that what the issuer has was revoked, so it orders another one at once.
    assert ended.status == 0, ended.everything
    assert f"older than what is served: backend-02 serves {newest}" in ended.stderr
    assert len(set(road.generations().values())) == 1
    assert road.current(road.issuer) > newest
    assert public(restored) not in served_keys(road)
    assert not any(number in kept(machine) for machine in road.replicas)


# The account


def test_an_account_whose_key_is_lost_is_registered_before_an_order_is_due(road: Road) -> None:
    before = account(road)
    road.issuer.sh(f"rm {ACCOUNTS}/*/key.pem")
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert account(road) != before
    road.issuer.sh(f"truncate -s 20 {ACCOUNTS}/*/account.json")
    registered = account_again(road)
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert account(road) == registered
    road.issuer.sh(f"test -s $(ls {ACCOUNTS}/*/account.json.broken)")


def account_again(road: Road) -> str:
    """Return the URL of our account after a run that had to find it."""
    ended = road.renew()
    assert ended.status == 0, ended.everything
    return account(road)


# The role


def account(road: Road) -> str:
    """Return the URL of our account as the issuer has it."""
    found = road.issuer.sh(f"cat {ACCOUNTS}/*/account.json")
    return str(json.loads(found)["uri"])


def test_who_closes_its_account_ends_it_and_who_registers_has_one_of_its_own(road: Road) -> None:
    ended = road.on_issuer("register", "--dry-run", "--json")
    assert json.loads(ended.stdout) == {"steps": []}
    before = account(road)
    road.issuer.sh(f"cp -a {ACCOUNTS} /root/accounts")
    steps = json.loads(road.on_issuer("close-account", "--dry-run", "--json").stdout)["steps"]
    assert [step.partition(" ")[0] for step in steps] == ["deactivate", "remove"]
    ended = road.on_issuer("close-account")
    assert ended.status == 0, ended.everything
    assert ended.stdout == "deactivated our account at the CA\nremoved the account's key\n"
    assert road.issuer.sh(f"ls {ACCOUNTS}") == ""
    ended = road.on_issuer("close-account")
    assert (ended.status, ended.stdout) == (0, "nothing to do\n")
    # With the old key the CA lets nobody order any more.
    orders = road.lab.ca.orders()
    road.issuer.sh(f"cp -a /root/accounts/. {ACCOUNTS}/")
    ended = road.renew("--force")
    assert ended.status == 1
    assert "the CA refused while placing the order: " in ended.stderr
    assert "the CA has ended our account" in ended.stderr
    assert road.lab.ca.orders() == orders
    # The key of an account that the CA has ended is kept aside, and the next run has a new one.
    assert "key.pem.ended" in road.issuer.sh(f"ls {ACCOUNTS}/*")
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert account(road) != before
    assert road.lab.ca.orders() == orders + 1


def test_a_ca_that_is_out_of_reach_keeps_nobody_from_closing_an_account(road: Road) -> None:
    road.lab.ca.machine.cut()
    try:
        ended = road.on_issuer("close-account")
    finally:
        road.lab.ca.machine.join()
    assert (ended.status, ended.stdout) == (0, "removed the account's key\n")
    assert "our account stays active at the CA, although its key is removed: " in ended.stderr
    assert road.issuer.sh(f"ls {ACCOUNTS}") == ""
    assert road.on_issuer("register").status == 0


def test_what_the_issuer_before_has_rolled_back_is_not_activated_by_the_next(road: Road) -> None:
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    rolled_back = road.current(road.issuer)
    ended = road.on_issuer("rollback")
    assert ended.status == 0, ended.everything
    live = road.current(road.issuer)
    # A new issuer has the generations, and not the old one's memory.
    road.issuer.sh("rm -f /var/lib/certsync/state.json /var/lib/certsync/withdrawn-*.json")
    ended = road.on_issuer("register", "--dry-run", "--json")
    assert json.loads(ended.stdout)["steps"] == [
        f"withdraw generation {rolled_back}: the previous issuer may have rolled it back"
    ]
    assert road.on_issuer("register").status == 0
    assert json.loads(road.on_issuer("register", "--dry-run", "--json").stdout) == {"steps": []}
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert set(road.generations().values()) == {live}


LOOK_UP = """
import sys
from certsync.system import caa
for pin in caa.look_up(sys.argv[1:], sys.exit):
    print(pin.name, pin.ca, pin.account)
"""


def test_the_account_that_caa_records_bind_a_name_to_is_found_by_the_operator(road: Road) -> None:
    url = account(road)
    parent = NAME.partition(".")[2]
    road.lab.ca.forbid_all_but(parent, f"pebble.example; accounturi={url}", "other.example")
    try:
        ended = road.operator(sys.executable, "-c", LOOK_UP, NAME)
        assert (ended.status, ended.stdout) == (0, f"{parent} pebble.example {url}\n")
    finally:
        road.lab.ca.forbid_all_but(parent)
    ended = road.operator(sys.executable, "-c", LOOK_UP, NAME)
    assert (ended.status, ended.stdout) == (0, "")


def test_what_another_account_has_ordered_is_revoked_with_its_own_key(road: Road) -> None:
    before, lines, number = certificates(road), keys(road), following(road)
    assert len(before) > 1
    road.issuer.sh(f"rm -r {ACCOUNTS}/*")
    assert road.on_issuer("register").status == 0
    ended = compromised(road, "backend-07")
    assert ended.status == 0, ended.everything
    all_is_replaced(road, before, lines, number)

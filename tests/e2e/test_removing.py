"""Who is not removed, who is gone for good, and whose keys are replaced when they have left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from certsync.model.answers import PROTOCOL
from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import LIVE, NAME, Road, state

BACKUP = "/root/before"


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service; a fourth host is there."""
    with bring_up(Lab("remove", backends=4), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("remove"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def names(road: Road) -> set[str]:
    return {machine.name for machine in road.backends}


def test_the_issuer_the_last_one_and_a_stranger_are_not_removed(road: Road) -> None:
    ended = road.certsync("remove-backend", "backend-01")
    assert ended.status == 1
    assert ended.stderr == (
        "error: backend-01 is the issuer: nothing would renew the certificate; nothing was "
        f"changed\nhint: promote another backend first: certsync promote {road.fleet_file} "
        "backend-02\n"
    )
    ended = road.certsync("remove-backend", "backend-09")
    assert f"error: {road.fleet_file} has no backend backend-09" in ended.stderr
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


@contextmanager
def issuer_speaks(road: Road, protocol: int) -> Iterator[None]:
    """Have the issuer's certsync be of another release, with this protocol, inside the block."""
    answers = "/opt/certsync/current/lib/python3.*/site-packages/certsync/model/answers.py"
    current = road.issuer.sh("readlink /opt/certsync/current").strip()
    road.issuer.sh(
        f"cd /opt/certsync && ln -s {current} 0.0.1-other && ln -sfn 0.0.1-other current && "
        f"cp -a {answers} /root/answers.py && "
        f"sed -i 's/^PROTOCOL = .*/PROTOCOL = {protocol}/' {answers}"
    )
    try:
        yield
    finally:
        road.issuer.sh(
            f"mv /root/answers.py {answers} && cd /opt/certsync && ln -sfn {current} current && "
            "rm 0.0.1-other"
        )


ASKED = (
    ("remove-backend", "backend-03"),
    ("remove-backend", "backend-03", "--compromised"),
    ("promote", "backend-02"),
)


def test_an_issuer_of_another_release_is_asked_if_it_has_the_same_protocol(road: Road) -> None:
    with issuer_speaks(road, PROTOCOL):
        for words in ASKED:
            ended = road.certsync(*words, "--dry-run")
            assert ended.status == 0, ended.everything


def test_an_issuer_of_another_protocol_is_not_asked(road: Road) -> None:
    older = (
        "error: certsync on backend-01 is older than here: it speaks protocol "
        f"{PROTOCOL - 1}, this one {PROTOCOL}; nothing was changed\n"
        "hint: install this one there first: certsync deploy FLEET\n"
    )
    newer = (
        "error: backend-01: certsync there is newer than here: it speaks protocol "
        f"{PROTOCOL + 1}, this one {PROTOCOL}\nhint: upgrade certsync on this machine\n"
    )
    for protocol, told in ((PROTOCOL - 1, older), (PROTOCOL + 1, newer)):
        with issuer_speaks(road, protocol):
            for words in ASKED:
                ended = road.certsync(*words)
                assert (ended.status, ended.stderr) == (1, told)


def test_while_a_balancer_is_out_of_reach_nobody_is_removed(road: Road) -> None:
    balancer = road.lab.balancer
    balancer.sh("systemctl stop ssh")
    try:
        ended = road.certsync("remove-backend", "backend-03")
    finally:
        balancer.sh("systemctl start ssh")
    assert ended.status == 1
    assert ended.stderr.startswith(
        "error: balancer: nothing listens for SSH; it would keep sending connections to "
        "backend-03, so "
        "nothing was changed\n"
    )


def test_a_removal_that_failed_at_the_balancer_takes_nothing_and_a_deploy_takes_it_back(
    road: Road,
) -> None:
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
        "backend-01: The balancers have finished: balancer may still use this host: nothing is "
        "changed here"
    ) in ended.stderr
    assert state(road.lab)[leaving.name] == before
    assert "drained: `certsync deploy` readmits it" in road.certsync("status").stdout
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
            "backend-01: the issuer knows backend-03, but the fleet file does not\n"
            "  hint: pull the newer fleet file, or remove it with `certsync remove-backend`"
        ) in ended.stderr
        ended = road.certsync("promote", "backend-02")
        assert (
            "error: the fleet file differs from what is deployed: "
            "backends.backend-03; nothing was changed"
        ) in ended.stderr
        road.fleet_file.write_text(text.replace('issuer = "backend-01"', 'issuer = "backend-02"'))
        ended = road.deploy()
        assert ended.status == 1
        assert (
            "backend-01: it is this fleet's issuer, but the fleet file names backend-02\n"
            "  hint: pull the newer fleet file, or promote backend-02: "
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
    assert "If it will not come back, add --gone: its key then stays on it" in ended.stderr
    ended = road.certsync("remove-backend", gone.name, "--gone")
    assert ended.status == 0, ended.everything
    assert (
        f"warning: the certificate's private key is still on {gone.name}; if anybody else could "
        "get it, replace the key and revoke the certificate: certsync remove-backend "
        f"{road.fleet_file} {gone.name} --gone --compromised"
    ) in ended.stderr
    assert gone.name not in names(road)


def test_a_backend_that_was_removed_is_removed_again_with_nothing_to_do(road: Road) -> None:
    ended = road.certsync("remove-backend", "backend-03")
    assert ended.status == 0, ended.everything
    assert "nothing to do: backend-03 was removed before\n" in ended.stderr
    assert road.certsync("remove-backend", "backend-03", "--dry-run").status == 0


def test_what_an_issuer_restored_from_a_backup_still_knows_is_taken_out_again(road: Road) -> None:
    gone, text = road.lab.machine("backend-03"), road.fleet_file.read_text()
    road.issuer.sh(f"cp {BACKUP}/* /etc/certsync/")
    ended = road.deploy()
    assert ended.status == 1
    assert "backend-01: the issuer knows backend-03, but the fleet file does not" in ended.stderr
    ended = road.certsync("remove-backend", gone.name)
    assert ended.status == 1
    assert "If it will not come back, add --gone: its key then stays on it" in ended.stderr
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
    assert "error: backend-04 is removed, but its keys are not all replaced yet: " in ended.stderr
    assert stolen.name not in names(road)
    compromise = json.loads(road.on_issuer("prove", "--json").stdout)["compromise"]
    assert compromise.startswith("not all keys that backend-04 may hold have been replaced")
    road.fleet_file.write_text(text)
    ended = road.deploy()
    assert ended.status == 1
    assert "backend-04: it is back in the fleet, but not all keys that it may hold" in ended.stderr
    assert stolen.sh(f"ls /etc/certsync/archive/{NAME}") == "0000\n"
    assert stolen.name not in road.pages(12)
    ended = road.certsync("remove-backend", stolen.name, "--compromised")
    assert ended.status == 0, ended.everything
    assert old not in road.issuer.sh(f"ls /etc/certsync/archive/{NAME}").split()

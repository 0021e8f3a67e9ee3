"""The main job on real hosts: one certificate, proven on every backend, passed through unopened."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.managed import texts
from tests.e2e.road import LINEAGE, NAME, Road, state


@pytest.fixture(scope="module", params=("trixie", "bookworm"))
def road(
    request: pytest.FixtureRequest, bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Road]:
    """Return a fleet that `certsync deploy` has deployed on each suite."""
    with bring_up(Lab("road", suite=request.param)) as lab:
        lab.ca.restart({"PEBBLE_AUTHZREUSE": "0"})
        road = Road(lab, tmp_path_factory.mktemp("road"))
        _with_files_of_somebody_elses(road)
        ended = road.deploy("--adopt-nginx", "--adopt-haproxy")
        assert ended.status == 0, ended.everything
        assert f"open https://{NAME}/lb.html" in ended.stdout
        yield road


def _with_files_of_somebody_elses(road: Road) -> None:
    road.replicas[0].sh(
        "apt-get install -y -q nginx && cd /etc/nginx/sites-enabled "
        "&& echo 'server { listen 8080; }' > ../sites-available/theirs "
        "&& ln -s ../sites-available/theirs theirs"
    )
    road.lab.balancer.sh(
        "apt-get install -y -q haproxy && echo '# mine' >> /etc/haproxy/haproxy.cfg"
    )


def test_what_was_taken_over_is_kept_once_with_its_date(road: Road) -> None:
    kept = road.replicas[0].sh("cd /var/backups/certsync && find . -type f").split()
    assert [re.sub(r"\d", "0", each) for each in kept] == [
        "./00000000-000000/etc/nginx/sites-enabled/theirs"
    ]
    kept = road.lab.balancer.sh("grep -rlx '# mine' /var/backups/certsync").split()
    assert len(kept) == 1
    assert kept[0].endswith("/etc/haproxy/haproxy.cfg")
    assert road.replicas[0].attempt("test -e /etc/nginx/sites-enabled/theirs")[0] != 0


def test_every_backend_and_the_balancer_show_the_same_leaf(road: Road) -> None:
    balancer = road.lab.balancer
    addresses = [machine.address for machine in road.lab.backends]
    addresses += [balancer.address, balancer.address6]
    leaves = {road.shown_by(address) for address in addresses}
    assert len(leaves) == 1
    assert "BEGIN CERTIFICATE" in leaves.pop()


def test_different_backends_answer_by_the_domain_name_over_one_trusted_certificate(
    road: Road,
) -> None:
    assert road.pages() == {machine.name for machine in road.lab.backends}


def test_each_nginx_is_told_of_no_group_that_its_openssl_does_not_know(road: Road) -> None:
    for machine in road.lab.backends:
        said = machine.sh(
            f"grep -o 'ssl_ecdh_curve.*' /etc/nginx/snippets/ssl-{NAME}.conf; nginx -t -q"
        )
        assert ("X25519MLKEM768" in said) is (road.lab.suite != "bookworm")
        assert machine.sh("systemctl is-active nginx") == "active\n"


def test_status_shows_one_generation_in_sync_and_all_in_the_pool(road: Road) -> None:
    ended = road.certsync("status")
    assert ended.status == 0
    lines = ended.stdout.splitlines()
    assert lines[0].split() == (
        ["backend", "generation", "served", "days", "left", "in", "pool", "key", "exchange"]
    )
    rows = [line.split() for line in lines[1:4]]
    assert [row[0] for row in rows] == [machine.name for machine in road.lab.backends]
    assert {row[1] for row in rows} == {"0001"}
    assert len({row[2] for row in rows}) == 1
    assert {row[4] for row in rows} == {"yes"}
    assert "not publicly trusted" in ended.stdout


def test_status_for_programs_says_the_same(road: Road) -> None:
    answer = road.status()
    assert answer["findings"] == []
    assert answer["publicly_trusted"] is False
    assert all(row["good"] for row in answer["rows"])


def test_no_private_key_of_any_generation_is_on_the_balancer(road: Road) -> None:
    publics = set()
    for machine in road.lab.backends:
        keys = machine.sh(f"ls {LINEAGE}/*/privkey.pem").split()
        publics |= {machine.sh(f"openssl pkey -in {key} -pubout") for key in keys}
    balancer = road.lab.balancer
    with_keys = balancer.sh(
        "find / /run /tmp -xdev -type f -size -1024k "
        "-exec grep -lE -- '-----BEGIN [A-Z ]*PRIVATE KEY-----' {} + 2>/dev/null || :"
    ).split()
    found = {
        balancer.attempt(f"openssl pkey -in {path} -pubout 2>/dev/null", timeout=30)[1]
        for path in with_keys
    }
    assert len(publics) == 1 + len(road.lab.backends)  # one generation, and a placeholder each
    assert not publics & found


def test_the_challenges_went_through_the_balancer_to_more_than_one_backend(road: Road) -> None:
    asked = [
        machine.name
        for machine in road.lab.backends
        if "/.well-known/acme-challenge/" in _without_canary(machine.sh(
            f"grep ' {road.lab.balancer.address} \\|^{road.lab.balancer.address} ' "
            "/var/log/nginx/access.log || :"
        ))
    ]  # fmt: skip
    assert len(asked) >= 2


def _without_canary(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "certsync-canary" not in line)


def test_challenge_files_are_gone(road: Road) -> None:
    folder = "/var/lib/certsync/webroot/.well-known/acme-challenge"
    assert road.issuer.sh(f"ls -A {folder}") == ""
    assert road.issuer.sh("ls -A /etc/certsync/pending 2>/dev/null || :") == ""


def test_a_second_deploy_changes_nothing_and_orders_nothing(road: Road) -> None:
    orders = road.lab.ca.orders()
    assert orders >= 1
    ended = road.deploy()
    assert ended.status == 0
    assert "\n0 changes\n" in ended.stderr
    assert road.lab.ca.orders() == orders
    assert road.current(road.issuer) == "0001"


def test_a_dry_run_on_a_finished_fleet_changes_nothing(road: Road) -> None:
    orders, before = road.lab.ca.orders(), state(road.lab)
    ended = road.deploy("--dry-run")
    assert ended.status == 0
    assert ended.stdout == "nothing would be changed\n"
    assert state(road.lab) == before
    assert road.lab.ca.orders() == orders


def test_generations_are_roots_alone(road: Road) -> None:
    for machine in road.lab.backends:
        listing = machine.sh("stat -c '%U %a' /etc/certsync /etc/certsync/archive/*/0001/*")
        assert set(listing.splitlines()) == {"root 700", "root 600"}


def test_the_pushing_user_can_read_the_push_key_and_no_certificate_key(road: Road) -> None:
    run = "setpriv --reuid certsync-push --regid certsync-push --clear-groups"
    status, _ = road.issuer.attempt(f"{run} cat /var/lib/certsync-push/id_ed25519")
    assert status == 0
    status, _ = road.issuer.attempt(f"{run} cat {LINEAGE}/0001/privkey.pem")
    assert status != 0


def test_the_operators_machine_keeps_no_key_of_the_fleet(road: Road, tmp_path: Path) -> None:
    key = road.issuer.sh(f"cat {LINEAGE}/0001/privkey.pem")
    secret = re.sub(r"-----[A-Z ]+-----|\s", "", key)[:40]
    places = [str(road.folder), str(Path.home() / ".cache/certsync"), str(tmp_path)]
    found = subprocess.run(["grep", "-rlF", secret, *places], capture_output=True, text=True)
    assert found.stdout == ""


def test_the_issuer_has_no_pyinfra_and_needs_none(road: Road) -> None:
    python = "/opt/certsync/current/bin/python"
    assert road.issuer.attempt(f"{python} -c 'import pyinfra'")[0] != 0
    assert "Order a certificate, if one is due" in road.issuer.sh("certsync issue --help")


def test_a_placeholder_is_left_alone_and_never_served(road: Road) -> None:
    for machine in road.lab.backends:
        assert machine.sh("ls /etc/certsync/archive/*/0000/manifest.json")
        assert road.current(machine) == "0001"


def test_a_rebooted_replica_serves_the_same_generation(road: Road) -> None:
    replica = road.replicas[-1]
    before = road.shown_by(replica.address)
    replica.power_off()
    replica.boot()
    replica.wait()
    assert road.shown_by(replica.address) == before


def test_a_damaged_generation_is_found_at_boot_and_healed_by_the_next_deploy(road: Road) -> None:
    replica = road.replicas[-1]
    replica.sh(f"truncate -s 10 {LINEAGE}/0001/privkey.pem")
    replica.power_off()
    replica.boot()
    replica.wait()
    assert road.current(replica) == "0000"
    assert replica.sh("systemctl is-active nginx") == "active\n"
    status = road.certsync("status")
    assert status.status == 3
    assert f"{replica.name}: it serves a certificate not issued here" in status.stderr
    assert road.deploy().status == 0
    assert road.current(replica) == "0001"
    assert road.certsync("status").status == 0


def test_a_dry_run_shows_every_file_that_changes_and_no_other(road: Road) -> None:
    hosts = [road.lab.balancer, *road.backends]
    road.edit("[site]\n", "[site]\nhsts_seconds = 600\n")
    road.edit("[balancing]\n", "[balancing]\nconnections_per_client = 5000\n")
    with road.fleet_file.open("a") as file:
        file.write('\n[renewal]\nscheduler = "systemd"\n')
    before = {host.name: texts(host) for host in hosts}
    told = json.loads(road.deploy("--dry-run", "--json").stdout)
    assert {host.name: texts(host) for host in hosts} == before
    shown = {(each["host"], each["path"]): each["diff"] for each in told["files"]}
    road.as_announced("deploy")
    after = {host.name: texts(host) for host in hosts}
    changed = {
        (name, path)
        for name in after
        for path in {*before[name], *after[name]}
        if before[name].get(path) != after[name].get(path)
    }
    # When it was deployed, and by whom, is known at the deploy alone.
    assert changed == {each for each in shown if not each[1].endswith("/fleet-origin.json")}
    site = f"/etc/nginx/sites-available/certsync-{NAME}.conf"
    assert "max-age=600" in shown["backend-02", site]
    assert shown["backend-01", "/etc/systemd/system/certsync-renew.timer"].startswith("@@ -0,0 ")
    assert shown["backend-01", "/etc/cron.d/certsync"].splitlines()[0].endswith(" +0,0 @@")
    assert any("tls: backend-01 in" in line for line in told["pools"])
    assert {each["host"] for each in told["scripts"]} == {name for name, _ in changed}

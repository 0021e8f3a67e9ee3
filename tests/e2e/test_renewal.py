"""The hourly run on real hosts: renewed in time, once, and nearly free when nothing is due."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, LIVE, NAME, Road

PROFILES: dict[str, dict[str, object]] = {
    "shortlived": {"description": "six days", "validityPeriod": 6 * 86400}
}
HOUR = timedelta(hours=1)

ORDER = """
import json, sys
from certsync.issuer.ca.issuance.account import account_key, log_in, open_directory
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.store import Store
store = Store()
fleet = store.fleet()
folder = store.account(fleet.authority.directory)
acme = open_directory(Network(account_key(folder), str(store.directory_bundle)), fleet.authority)
log_in(acme, fleet.authority, folder, None)
print(json.dumps(acme._post_as_get(sys.argv[1]).json()))
"""
"""Asks the CA, as the fleet's account, what an order says of itself."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet with a six-day certificate."""
    with bring_up(Lab("renewal"), prepared=True) as lab:
        lab.ca.restart(profiles=PROFILES)
        road = Road(lab, tmp_path_factory.mktemp("renewal"))
        road.edit("[ca]\n", '[certificate]\nprofile = "shortlived"\n\n[ca]\n')
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        road.issuer.sh("apt-get install -y -qq faketime")
        yield road


def manifest(road: Road, number: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(road.issuer.sh(f"cat {LINEAGE}/{number}/manifest.json"))
    return found


def suggest(road: Road, start: timedelta, length: timedelta) -> None:
    """Move the CA's window for the live certificate to a time from now."""
    now = datetime.now(timezone.utc)
    fullchain = road.issuer.sh(f"cat {LIVE}/fullchain.pem")
    road.lab.ca.suggest(fullchain, now + start, now + start + length)


def test_the_certificate_is_of_the_profile_that_was_asked_for(road: Road) -> None:
    found = manifest(road, "0001")
    begin, end = (datetime.fromisoformat(found[key]) for key in ("not_before", "not_after"))
    assert end - begin == timedelta(days=6) - timedelta(seconds=1)


def test_a_profile_that_the_ca_does_not_offer_is_refused_with_what_it_offers(road: Road) -> None:
    road.edit('"shortlived"', '"tiny"')
    road.edit("[certificate]\n", '[certificate]\nkey_type = "ecdsa-p384"\n')
    try:
        orders = road.lab.ca.orders()
        ended = road.deploy()
    finally:
        road.edit('"tiny"', '"shortlived"')
        road.edit('key_type = "ecdsa-p384"\n', "")
    assert ended.status == 1
    told = 'backend-01: Order the certificate: the CA offers no certificate profile "tiny"'
    assert f"error: {told}" in ended.stderr
    assert "hint: set certificate.profile to one of: shortlived" in ended.stderr
    assert road.lab.ca.orders() == orders
    assert road.deploy().status == 0


def test_24_hourly_runs_before_the_window_order_nothing(road: Road) -> None:
    suggest(road, 25 * HOUR, 4 * HOUR)
    orders = road.lab.ca.orders()
    for hour in range(25):
        ended = road.renew(offset=f"+{hour}h")
        assert ended.status == 0, ended.everything
    assert road.lab.ca.orders() == orders
    remembered = road.memory()["lineages"][NAME]
    assert remembered["why"].startswith("the CA suggests ")
    assert set(road.generations().values()) == {"0001"}


def test_inside_the_window_it_is_renewed_once_and_the_order_says_what_it_replaces(
    road: Road,
) -> None:
    suggest(road, -HOUR / 4, HOUR)
    orders = road.lab.ca.orders()
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert "ordered generation 0002" in ended.stdout
    assert re.search(r"two generations were served side by side for \d+\.\d s", ended.stderr)
    assert road.lab.ca.orders() == orders + 1
    assert set(road.generations().values()) == {"0002"}
    new, old = manifest(road, "0002"), manifest(road, "0001")
    program = f"/opt/certsync/current/bin/python - {new['order']}"
    order = json.loads(road.issuer.sh(program, input=ORDER))
    assert order["replaces"] == old["renewal_id"]
    again = road.renew()
    assert (again.status, again.stdout) == (0, "nothing was due\n")
    assert road.lab.ca.orders() == orders + 1


def test_a_new_key_is_made_at_each_renewal(road: Road) -> None:
    keys = road.issuer.sh(f"sha256sum {LINEAGE}/000[12]/privkey.pem").split()[::2]
    assert len(set(keys)) == 2


def test_what_is_due_without_advice_is_half_of_six_days(road: Road) -> None:
    ended = road.on_issuer("renew", "--dry-run", offset="+71h")
    assert "an order would be placed" not in ended.stdout
    ended = road.on_issuer("renew", "--dry-run", offset="+121h")
    assert "an order would be placed: " in ended.stdout


# Costs


def test_a_run_with_nothing_to_do_loads_no_library_that_it_does_not_need(road: Road) -> None:
    road.renew()
    loaded = road.issuer.sh(
        "/opt/certsync/current/bin/python -X importtime /usr/local/bin/certsync renew 2>&1"
    )
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in loaded.splitlines()}
    assert {"certsync", "nothing was due"} <= modules
    assert not modules & {"acme", "josepy", "paramiko", "cryptography", "requests", "pydantic"}


def test_the_issuer_needs_nothing_of_what_deploys(road: Road) -> None:
    ended = road.on_issuer("renew", "--help")
    assert ended.status == 0
    assert "--force" in ended.stdout
    status, _told = road.issuer.attempt("/opt/certsync/current/bin/python -c 'import pyinfra'")
    assert status == 1


# Going back


def test_a_rollback_is_seen_beforehand(road: Road) -> None:
    ended = road.on_issuer("rollback", "--dry-run")
    assert ended.status == 0
    assert ended.stdout.startswith("withdraw generation 0002: no run activates it again\n")
    assert set(road.generations().values()) == {"0002"}


def test_a_rollback_has_every_backend_serve_the_generation_before(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.on_issuer("rollback")
    assert ended.status == 0, ended.everything
    assert "rolled back from generation 0002 to 0001" in ended.stdout
    assert set(road.generations().values()) == {"0001"}
    leaves = {road.shown_by(machine.address) for machine in road.lab.backends}
    assert leaves == {road.issuer.sh(f"openssl x509 -in {LINEAGE}/0001/cert.pem")}
    assert road.lab.ca.orders() == orders


def test_an_hourly_run_and_a_deploy_after_a_rollback_change_nothing(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.renew()
    assert (ended.status, ended.stdout) == (0, "nothing was due\n")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "0 changes" in ended.stderr
    assert set(road.generations().values()) == {"0001"}
    assert road.lab.ca.orders() == orders


def test_there_is_nothing_to_go_back_to_before_the_first(road: Road) -> None:
    ended = road.on_issuer("rollback")
    assert ended.status == 1
    assert "error: there is no generation to roll back to (kept here: 0001, 0002)" in ended.stderr


def test_nothing_is_gone_back_to_by_a_wrong_clock(road: Road) -> None:
    assert road.renew("--force").status == 0
    assert set(road.generations().values()) == {"0003"}
    ended = road.on_issuer("rollback", offset="+145h")
    assert ended.status == 1
    assert "error: cannot roll back: the issuer's clock is 6 days ahead of the CA's" in ended.stderr
    assert set(road.generations().values()) == {"0003"}


def test_a_revoked_generation_is_not_gone_back_to(road: Road) -> None:
    assert road.renew("--force").status == 0
    road.issuer.sh("/opt/certsync/current/bin/python -", input=REVOKE)
    ended = road.on_issuer("rollback")
    assert ended.status == 1
    assert "error: cannot roll back to generation 0003: the CA wants it replaced at once" in (
        ended.stderr
    )
    assert set(road.generations().values()) == {"0004"}


REVOKE = f"""
from cryptography import x509
from certsync.issuer.ca.issuance.account import account_key, log_in, open_directory
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.store import Store
store = Store()
fleet = store.fleet()
folder = store.account(fleet.authority.directory)
acme = open_directory(Network(account_key(folder), str(store.directory_bundle)), fleet.authority)
log_in(acme, fleet.authority, folder, None)
pem = open("{LINEAGE}/0003/cert.pem", "rb").read()
acme.revoke(x509.load_pem_x509_certificate(pem), 4)
"""


# Who is missed


def test_a_replica_interrupted_during_a_renewal_is_named_and_healed_by_the_next_run(
    road: Road,
) -> None:
    missed, orders = road.replicas[-1], road.lab.ca.orders()
    missed.cut()
    try:
        ended = road.renew("--force")
    finally:
        missed.join()
    assert ended.status == 1
    assert "error: generation 0005 is not served by all backends: backend-03: " in ended.stderr
    assert "backend-02" not in ended.stderr.split("error: ")[1]
    assert road.generations() == {
        "backend-01": "0005", "backend-02": "0005", "backend-03": "0004"
    }  # fmt: skip
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert "activated generation 0005 on backend-03" in ended.stdout
    assert set(road.generations().values()) == {"0005"}
    assert road.lab.ca.orders() == orders + 1


# What is kept


def test_three_generations_are_kept_everywhere(road: Road) -> None:
    assert road.renew("--force").status == 0
    for machine in road.lab.backends:
        kept = machine.sh(f"ls {LINEAGE}").split()
        assert kept == ["0000", "0004", "0005", "0006"]


def test_with_reuse_key_a_renewal_keeps_the_key(road: Road) -> None:
    road.edit("[certificate]\n", "[certificate]\nreuse_key = true\n")
    assert road.deploy().status == 0
    for _ in range(2):
        ended = road.renew("--force")
        assert ended.status == 0, ended.everything
    keys = road.issuer.sh(f"sha256sum {LINEAGE}/000[678]/privkey.pem").split()[::2]
    assert len(set(keys)) == 1
    leaves = road.issuer.sh(f"sha256sum {LINEAGE}/000[678]/cert.pem").split()[::2]
    assert len(set(leaves)) == 3


def test_changed_names_are_on_a_new_certificate_at_the_next_deploy(road: Road) -> None:
    road.edit(f'names = ["{NAME}", "www.{NAME}"]', f'names = ["{NAME}"]')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert list(manifest(road, "0009")["names"]) == [NAME]


# What is told


def test_status_tells_the_next_renewal_the_history_and_the_last_runs_age(road: Road) -> None:
    road.renew()
    ended = road.certsync("status")
    assert ended.status == 0, ended.everything
    assert "next renewal after " in ended.stdout
    assert "renew: ordered generation 0008; activated generation 0008 on backend-01" in ended.stdout
    old = (datetime.now(timezone.utc) - timedelta(hours=4)).isoformat()
    path = "/var/lib/certsync/state.json"
    road.issuer.sh(f'cp -a {path} {path}.kept && sed -i \'s/"at": "[^"]*"/"at": "{old}"/\' {path}')
    try:
        ended = road.certsync("status")
    finally:
        road.issuer.sh(f"mv {path}.kept {path}")
    assert ended.status == 3
    assert "backend-01: no renewal run for over 3 hours, the last one was 4 hours ago" in (
        ended.stderr
    )

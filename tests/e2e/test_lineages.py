"""Several certificates in one fleet, each with names, key and backends of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import NAME, Road, state

SHOP = "shop.example.net"
SHOP_TABLES = f"""\
[lineages.shop]
names = ["{SHOP}", "www.{SHOP}"]
served_by = ["backend-03"]
[lineages.shop.certificate]
key_type = "rsa-2048"
[lineages.shop.site]
root = "/srv/shop"
test_page = false

[balancers.balancer]
"""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet whose third backend serves a shop, and the first two all else."""
    with bring_up(Lab("lineages")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("lineages"))
        for machine in lab.backends:
            page = f"the shop at {machine.name}"
            machine.sh(f"mkdir /srv/shop && cd /srv/shop && echo {page} | tee lb.html > index.html")
        road.edit("issuer =", 'served_by = ["backend-01", "backend-02"]\nissuer =')
        road.edit("[balancers.balancer]\n", SHOP_TABLES)
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def curl(road: Road, *words: str) -> str:
    roots = str(road.lab.ca.roots)
    return road.operator("curl", "-sS", "--max-time", "10", "--cacert", roots, *words).stdout


def key_and_names(road: Road, address: str, name: str) -> tuple[int, list[str]]:
    """Return the bits of the key and the names of the certificate that is shown for a name."""
    shown = road.leaf(address, name)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = shown.public_key()
    assert isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey))
    return key.key_size, names.get_values_for_type(x509.DNSName)


def inside(road: Road, server_name: str, host: str, path: str) -> str:
    """Return what is answered when another host is asked for inside TLS for a server name."""
    request = f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n"
    return road.operator(
        "sh", "-c",
        f"printf '{request}' | timeout 10 openssl s_client -quiet "
        f"-connect {road.lab.balancer.address}:443 -servername {server_name}",
    ).stdout  # fmt: skip


def asked(machine: Machine, words: str) -> int:
    """Return how many requests with these words a backend's nginx has answered."""
    log = machine.root / "var/log/nginx/access.log"
    return sum(words in line for line in log.read_text().splitlines())


def test_each_name_leads_to_its_own_certificate_and_backends(road: Road) -> None:
    for address in (road.lab.balancer.address, road.lab.balancer.address6):
        assert key_and_names(road, address, NAME) == (256, [NAME, f"www.{NAME}"])
        assert key_and_names(road, address, f"www.{SHOP}") == (2048, [SHOP, f"www.{SHOP}"])
    assert road.pages() == {"backend-01", "backend-02"}
    for scheme in ("https", "http"):
        for _ in range(4):
            assert curl(road, f"{scheme}://{SHOP}/?own") == "the shop at backend-03\n"
    counts = {machine.name: asked(machine, "GET /?own") for machine in road.backends}
    assert counts == {"backend-01": 0, "backend-02": 0, "backend-03": 8}


def test_a_hello_that_does_not_fit_into_one_segment_leads_there_too(road: Road) -> None:
    # The key share of this group alone is 1216 bytes; this machine's own client may not have it.
    client = road.lab.balancer
    (client.root / "srv/roots.pem").write_text(road.lab.ca.roots.read_text())
    ask = "curl -sS --max-time 10 --curves X25519MLKEM768 --tlsv1.3 --cacert /srv/roots.pem"
    assert client.sh(f"{ask} https://{SHOP}/") == "the shop at backend-03\n"
    assert "backend-0" in client.sh(f"{ask} https://{NAME}/lb.html")


@pytest.mark.parametrize("name", ["else.example.org", ""], ids=["unknown", "none"])
def test_a_name_that_nobody_serves_and_none_at_all_are_refused_at_the_balancer(
    road: Road, name: str
) -> None:
    assert road.shown_by(road.lab.balancer.address, name) == ""
    assert road.shown_by(road.lab.balancer.address, SHOP) != ""


def test_one_lineages_name_never_leads_to_anothers_backend(road: Road) -> None:
    """The server name opens the way, and what is asked for inside cannot change it."""
    shop = road.lab.machine("backend-03")
    for _ in range(6):
        # TLS for one name, and then the other one is asked for inside.
        got = inside(road, NAME, SHOP, "/?crossed")
        assert "the shop" not in got
        # What has browsers ask again, on a connection of its own (RFC 9110 section 15.5.20).
        assert got.startswith("HTTP/1.1 421")
    assert asked(shop, "crossed") == 0
    assert sum(asked(each, "crossed") for each in road.backends) == 6
    # And the other way round: nothing of the first lineage is there.
    got = inside(road, SHOP, NAME, "/lb.html")
    assert "backend-0" not in got


def test_who_serves_none_of_a_lineage_has_no_key_of_it_but_the_issuer(road: Road) -> None:
    keys = {
        machine.name: set(machine.sh("ls /etc/certsync/live").split()) for machine in road.backends
    }
    assert keys == {"backend-01": {NAME, SHOP}, "backend-02": {NAME}, "backend-03": {SHOP}}
    # It orders the shop's certificate, and serves nothing of the shop.
    got = curl(road, "-o", "/dev/null", "-w", "%{http_code}",
               "--resolve", f"{SHOP}:443:{road.issuer.address}", f"https://{SHOP}/")  # fmt: skip
    assert got == "421"


def test_any_backend_answers_the_challenges_of_any_lineage(road: Road) -> None:
    for machine in road.backends:
        for name in (NAME, SHOP, "else.example.org"):
            url = f"http://{name}/.well-known/acme-challenge/certsync-route"
            got = curl(road, "--resolve", f"{name}:80:{machine.address}", url)
            assert got == "certsync-route-leads-to backend-01."


def test_the_status_tells_of_each_lineage(road: Road) -> None:
    status = road.status()
    assert status["findings"] == []
    names = [row["name"] for row in status["rows"]]
    assert "backend-02" in names
    assert f"backend-03 {SHOP}" in names
    assert f"backend-02 {SHOP}" not in names
    assert f"{road.lab.balancer.address} {SHOP}" in names
    assert "backend-03" not in names


def test_one_lineage_is_renewed_without_the_other(road: Road) -> None:
    road.edit('key_type = "rsa-2048"', 'key_type = "ecdsa-p384"')
    assert road.as_announced("deploy").status == 0
    numbers = {
        lineage: road.issuer.sh(f"readlink /etc/certsync/live/{lineage}").strip()[-4:]
        for lineage in (NAME, SHOP)
    }
    assert numbers == {NAME: "0001", SHOP: "0002"}
    assert key_and_names(road, road.lab.balancer.address, SHOP)[0] == 384


def test_the_hourly_run_looks_after_each(road: Road) -> None:
    shop = road.lab.machine("backend-03")
    shop.sh(f"ln -sfn ../archive/{SHOP}/0001 /etc/certsync/live/{SHOP} && systemctl reload nginx "
            "&& sleep 1")  # fmt: skip
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert f"{SHOP}: activated generation 0002 on backend-03" in ended.stdout
    told = road.on_issuer("rollback")
    assert told.status == 1
    assert "error: this fleet has several lineages" in told.stderr


def test_a_second_deploy_changes_nothing(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr


def test_the_last_backend_of_a_lineage_is_not_removed(road: Road) -> None:
    ended = road.certsync("remove-backend", "backend-03")
    assert ended.status == 1
    assert f"error: backend-03 is the only backend that serves {SHOP}; nothing was changed\n" in (
        ended.stderr
    )
    assert (
        "hint: add another backend to its served_by first, then run certsync deploy" in ended.stderr
    )


def test_who_serves_which_is_changed_without_a_failed_connection(road: Road) -> None:
    roots, before = str(road.lab.ca.roots), road.lab.operator_argv()
    addresses = [road.lab.balancer.address, road.lab.balancer.address6]
    targets = [Target(NAME, roots), Target(SHOP, roots)]
    with ExitStack() as stack:
        loads = [
            stack.enter_context(Load(before, NEW, addresses, each, count=200, pause=0.02))
            for each in targets
        ]
        road.edit('["backend-01", "backend-02"]', '["backend-01", "backend-02", "backend-03"]')
        road.edit('served_by = ["backend-03"]', 'served_by = ["backend-02", "backend-03"]')
        assert road.as_announced("deploy").status == 0
        road.edit('["backend-01", "backend-02", "backend-03"]', '["backend-01", "backend-03"]')
        road.edit('served_by = ["backend-02", "backend-03"]', 'served_by = ["backend-02"]')
        assert road.as_announced("deploy").status == 0
        first, shop = (each.over() for each in loads)
    assert first.watched
    assert shop.watched
    assert not first.failed
    assert not shop.failed
    assert set(first.backends) == {"backend-01", "backend-02", "backend-03"}
    assert set(shop.backends) == {"backend-02", "backend-03"}
    held = {
        machine.name: machine.sh("ls /etc/certsync/archive").split() for machine in road.backends
    }
    assert held == {"backend-01": [NAME, SHOP], "backend-02": [SHOP], "backend-03": [NAME]}


def test_all_who_serve_a_lineage_are_not_exchanged_in_one_deploy(road: Road) -> None:
    before = state(road.lab)
    road.edit('served_by = ["backend-02"]', 'served_by = ["backend-03"]')
    road.edit('["backend-01", "backend-03"]', '["backend-01", "backend-02"]')
    ended = road.deploy()
    assert ended.status == 1
    assert f"balancer: none of the backends that serve {SHOP} now would still serve it" in (
        ended.stderr
    )
    assert "add them to served_by, deploy, then remove the old ones" in ended.stderr
    assert state(road.lab) == before
    road.edit('served_by = ["backend-03"]', 'served_by = ["backend-02"]')
    road.edit('["backend-01", "backend-02"]', '["backend-01", "backend-03"]')
    assert "\n0 changes\n" in road.deploy().stderr


def test_another_first_name_is_refused_before_anybody_is_left_without_a_certificate(
    road: Road,
) -> None:
    before = state(road.lab)
    road.edit(f'names = ["{SHOP}", "www.{SHOP}"]', f'names = ["www.{SHOP}", "{SHOP}"]')
    for options in ((), ("--dry-run",)):
        ended = road.deploy(*options)
        assert ended.status == 1
        assert (
            f"balancer: www.{SHOP}, {SHOP} would have no certificate until www.{SHOP} gets a new "
            "one: a lineage is identified by its first name"
        ) in ended.stderr
        assert (
            "hint: keep each name in its lineage, and the first one first; or, if an outage is "
            in ended.stderr
        )
    assert state(road.lab) == before
    road.edit(f'names = ["www.{SHOP}", "{SHOP}"]', f'names = ["{SHOP}", "www.{SHOP}"]')


def test_a_name_of_one_lineage_that_leads_elsewhere_is_told_and_all_else_goes_on(
    road: Road,
) -> None:
    elsewhere = f"elsewhere.{SHOP}"
    shown = road.shown_by(road.lab.balancer.address, SHOP)
    road.lab.ca.set_address(elsewhere, ipv4=[road.replicas[0].address], ipv6=[])
    road.edit(f'"www.{SHOP}"]', f'"www.{SHOP}", "{elsewhere}"]')
    ended = road.deploy()
    assert ended.status == 75, ended.everything
    assert f"error: {SHOP}: " in ended.stderr
    assert f"{elsewhere} resolves to 203.0.113.12, which is backend-02" in ended.stderr
    assert f"{elsewhere}. A 203.0.113.10" in ended.stderr
    assert road.shown_by(road.lab.balancer.address, SHOP) == shown
    assert road.pages()
    road.edit(f'"www.{SHOP}", "{elsewhere}"]', f'"www.{SHOP}"]')
    ended = road.deploy()
    assert ended.status == 0, ended.everything


def test_a_lineage_that_the_fleet_has_no_more_is_served_by_nobody(road: Road) -> None:
    text = road.fleet_file.read_text()
    begin, end = text.index("[lineages.shop]"), text.index("[balancers.balancer]")
    road.fleet_file.write_text(text[:begin] + text[end:])
    road.edit('served_by = ["backend-01", "backend-03"]\n', "")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    for machine in road.backends:
        assert SHOP not in machine.sh("ls /etc/nginx/sites-enabled")
    assert "tls-of-" not in road.haproxy_cfg()
    assert road.pages() == {machine.name for machine in road.backends}

"""What a TLS scanner that is not ours, and OpenSSL's own client, find on the backends' port 443."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from lab import Lab
from lab.world import CHECKOUT
from tests.e2e import segments
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Ended, Road

SSLYZE = CHECKOUT / ".venv-sslyze/bin/sslyze"
HOSTS = ("balancer", "backend-01", "backend-02")
OTHERS = ("shop.example.net", "blog.example.net")
AHEAD = (4, 60, 1460)
"""Bytes that come ahead: less than a record's header, less than the server name, and a segment."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of two backends."""
    with bring_up(Lab("tls", backends=2), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("tls"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


@pytest.fixture(scope="module")
def with_ecdsa(road: Road) -> dict[str, str]:
    """Return what the scanner says of each address while the key is the default one."""
    return scanned(road)


@pytest.fixture(scope="module")
def with_rsa(road: Road) -> dict[str, str]:
    """Return what the scanner says of each address once the fleet has an RSA key."""
    road.edit("[ca]\n", '[certificate]\nkey_type = "rsa-2048"\n\n[ca]\n')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    return scanned(road)


def scanned(road: Road) -> dict[str, str]:
    """Return the scanner's verdict for each address, with all that it finds wrong."""
    assert SSLYZE.exists(), f"{SSLYZE} is not there: run script/setup"
    targets = [f"{road.lab.machine(name).address}:443" for name in HOSTS]
    ended = road.operator(
        str(SSLYZE), "--mozilla_config=intermediate", f"--sni={NAME}",
        f"--certinfo_ca_file={road.lab.ca.roots}", *targets,
    )  # fmt: skip
    # Its exit status is 0 too when it could scan no address; then there is no verdict.
    verdicts = ended.stdout.partition('Checking results against Mozilla\'s "intermediate"')[2]
    found = re.findall(r"^    ([\d.]+):443: (.*(?:\n        .*)*)", verdicts, re.MULTILINE)
    return dict(found)


def shakes_hands(road: Road, name: str, *options: str) -> bool:
    """Return whether OpenSSL's client comes to an end of its handshake with a host."""
    address = road.lab.machine(name).address
    argv = ["openssl", "s_client", "-connect", f"{address}:443", "-servername", NAME, *options]
    return road.operator("sh", "-c", 'timeout 10 "$@" < /dev/null', "sh", *argv).status == 0


def passes_in_segments(road: Road, name: str, ahead: int) -> bool:
    """Return whether the balancer leads a hello to a backend whose first bytes come ahead."""
    address, roots = road.lab.balancer.address, str(road.lab.ca.roots)
    ended = road.operator(*segments.PROGRAM, address, name, roots, str(ahead))
    return "HTTP/1.1 200" in ended.stdout and "backend-0" in ended.stdout


def curl(road: Road, name: str, *options: str) -> Ended:
    """Ask a host for the test page."""
    at = f"{NAME}:443:{road.lab.machine(name).address}"
    return road.operator(
        "curl", "-sS", "--max-time", "10", "--cacert", str(road.lab.ca.roots), "--resolve", at,
        "-o", "/dev/null", *options, f"https://{NAME}/lb.html",
    )  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_an_ecdsa_key_is_served_by_mozillas_intermediate_profile(
    road: Road, with_ecdsa: dict[str, str], name: str
) -> None:
    assert with_ecdsa.get(road.lab.machine(name).address) == "OK - Compliant."


@pytest.mark.parametrize("name", HOSTS)
def test_tls_1_1_is_refused(road: Road, name: str) -> None:
    # The client's own default would not even ask.
    assert not shakes_hands(road, name, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert shakes_hands(road, name, "-tls1_2", "-cipher", "DEFAULT@SECLEVEL=0")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", HOSTS)
def test_tls_1_2_and_1_3_work_with_a_trusted_chain(road: Road, name: str, version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    roots = str(road.lab.ca.roots)
    verified = ("-verify_return_error", "-verify_hostname", NAME, "-CAfile")
    assert shakes_hands(road, name, option, *verified, roots)
    assert not shakes_hands(road, name, option, *verified, "/dev/null")


def test_http_2_is_offered_through_the_balancer(road: Road) -> None:
    assert curl(road, "balancer", "--http2", "-w", "%{http_version}").stdout == "2"


def test_a_key_exchange_that_outlives_quantum_computers_is_made_with_every_backend(
    road: Road,
) -> None:
    # A client that offers nothing else; this machine's own OpenSSL may not know it.
    client = road.lab.balancer
    (client.root / "srv/roots.pem").write_text(road.lab.ca.roots.read_text())
    ask = (
        "curl -sS --fail --max-time 10 --curves X25519MLKEM768 --tlsv1.3 "
        f"--cacert /srv/roots.pem https://{NAME}/lb.html"
    )
    pages = {re.findall(r"backend-\d+", client.sh(ask))[0] for _ in range(6)}
    assert pages == {"backend-01", "backend-02"}


def test_the_status_names_the_key_exchange_of_every_backend(road: Road) -> None:
    chosen = {row["name"]: row["key_exchange"] for row in road.status()["rows"]}
    assert chosen["backend-01"] == chosen["backend-02"] == "X25519MLKEM768"
    shown = road.certsync("status").stdout.splitlines()
    assert shown[0].split("  ")[-1].strip() == "key exchange"
    assert "X25519MLKEM768" in road.issuer.sh("certsync prove")


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_hello_in_two_segments_passes_with_one_lineage(road: Road, ahead: int) -> None:
    assert passes_in_segments(road, NAME, ahead)


@pytest.mark.parametrize("name", HOSTS)
def test_no_ocsp_response_is_stapled(road: Road, name: str) -> None:
    assert curl(road, name).status == 0
    assert curl(road, name, "--cert-status").status == 91, "CURLE_SSL_INVALIDCERTSTATUS"


@pytest.mark.parametrize("name", HOSTS)
def test_an_rsa_key_is_served_by_mozillas_intermediate_profile(
    road: Road, with_rsa: dict[str, str], name: str
) -> None:
    assert with_rsa.get(road.lab.machine(name).address) == "OK - Compliant."


def test_the_last_scan_was_of_an_rsa_key(road: Road, with_rsa: dict[str, str]) -> None:
    assert with_rsa
    key = road.leaf(road.lab.machine("backend-02").address).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


@pytest.fixture(scope="module")
def with_three_lineages(road: Road, with_rsa: dict[str, str]) -> None:
    """Give the fleet two more lineages, served by every backend, once the scans are made."""
    assert with_rsa
    tables = "".join(f'[lineages."{name}"]\nnames = ["{name}"]\n' for name in OTHERS)
    road.edit("[balancers.balancer]\n", f"{tables}\n[balancers.balancer]\n")
    ended = road.deploy()
    assert ended.status == 0, ended.everything


@pytest.mark.usefixtures("with_three_lineages")
@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("name", [NAME, *OTHERS])
def test_a_hello_in_two_segments_passes_with_three_lineages(
    road: Road, name: str, ahead: int
) -> None:
    assert passes_in_segments(road, name, ahead)


@pytest.mark.usefixtures("with_three_lineages")
def test_a_hello_with_a_hybrid_key_share_passes_with_three_lineages(road: Road) -> None:
    (road.lab.balancer.root / "srv/roots.pem").write_text(road.lab.ca.roots.read_text())
    ask = "curl -sS --max-time 10 --curves X25519MLKEM768 --tlsv1.3 --cacert /srv/roots.pem"
    for name in (NAME, *OTHERS):
        assert "backend-0" in road.lab.balancer.sh(f"{ask} https://{name}/lb.html")

"""What a TLS scanner that is not ours, and OpenSSL's own client, find on the backends' port 443."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import Lab
from lab.world import CHECKOUT
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road

SSLYZE = CHECKOUT / ".venv-sslyze/bin/sslyze"
HOSTS = ("balancer", "backend-01", "backend-02")


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of two backends."""
    with bring_up(Lab("tls", backends=2)) as lab:
        road = Road(lab, tmp_path_factory.mktemp("tls"))
        road.edit('[backends.backend-03]\naddress = "203.0.113.13"\n', "")
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


def s_client(road: Road, name: str, *options: str) -> str:
    """Return all that OpenSSL's client prints about a handshake with a host."""
    address = road.lab.machine(name).address
    argv = ["openssl", "s_client", "-connect", f"{address}:443", "-servername", NAME, *options]
    # An HTTP/2 server speaks first, and not in text.
    script = 'timeout 10 "$@" < /dev/null | LC_ALL=C tr -cd "[:print:]\n"'
    return road.operator("sh", "-c", script, "sh", *argv).everything


@pytest.mark.parametrize("name", HOSTS)
def test_an_ecdsa_key_is_served_by_mozillas_intermediate_profile(
    road: Road, with_ecdsa: dict[str, str], name: str
) -> None:
    assert with_ecdsa.get(road.lab.machine(name).address) == "OK - Compliant."


@pytest.mark.parametrize("name", HOSTS)
def test_tls_1_1_is_refused(road: Road, name: str) -> None:
    # The client's own default would not even ask.
    told = s_client(road, name, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert protocol version" in told
    assert "Cipher is (NONE)" in told


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("name", HOSTS)
def test_tls_1_2_and_1_3_work_with_a_trusted_chain(road: Road, name: str, version: str) -> None:
    option = f"-tls{version.replace('.', '_')}"
    roots = str(road.lab.ca.roots)
    told = s_client(road, name, option, "-brief", "-verify_hostname", NAME, "-CAfile", roots)
    assert f"Protocol version: TLSv{version}\n" in told
    assert "Verification: OK\n" in told


def test_http_2_is_offered_through_the_balancer(road: Road) -> None:
    assert "ALPN protocol: h2\n" in s_client(road, "balancer", "-alpn", "h2,http/1.1")


@pytest.mark.parametrize("name", HOSTS)
def test_no_ocsp_response_is_stapled(road: Road, name: str) -> None:
    assert "OCSP response: no response sent\n" in s_client(road, name, "-status")


@pytest.mark.parametrize("name", HOSTS)
def test_an_rsa_key_is_served_by_mozillas_intermediate_profile(
    road: Road, with_rsa: dict[str, str], name: str
) -> None:
    assert with_rsa.get(road.lab.machine(name).address) == "OK - Compliant."


def test_the_last_scan_was_of_an_rsa_key(road: Road, with_rsa: dict[str, str]) -> None:
    assert with_rsa
    assert "Server public key is 2048 bit" in s_client(road, "backend-02")

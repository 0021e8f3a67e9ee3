"""The certificate that all backends share has expired, and nobody renews it any more."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road
from tests.e2e.test_notify import PORT, SECRET, SERVICE, arrived

LIFETIME = 200
"""Seconds: more than a deploy needs from the order on, on a busy machine too."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet whose certificate has expired since it was deployed; the CA is gone."""
    with bring_up(Lab("expired"), prepared=True) as lab:
        short = {"default": {"description": "minutes", "validityPeriod": LIFETIME}}
        lab.ca.restart({"PEBBLE_WFE_NONCEREJECT": "0"}, profiles=short)
        road = Road(lab, tmp_path_factory.mktemp("expired"))
        (lab.ca.machine.root / "srv/service.py").write_text(SERVICE)
        lab.ca.machine.sh("systemd-run -q --unit=service /usr/bin/python3 /srv/service.py")
        road.edit("[site]\n", '[notify]\nevents = ["expiring"]\n\n[site]\n')
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        url = f"json://{lab.ca.machine.address}:{PORT}/{SECRET}"
        road.issuer.sh("certsync notify --set", input=url)
        lab.ca.machine.sh("systemctl stop pebble")
        _wait_until_expired(road)
        yield road


def _wait_until_expired(road: Road) -> None:
    told = road.issuer.sh(f"openssl x509 -noout -enddate -in /etc/certsync/live/{NAME}/cert.pem")
    end = ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))
    left = end - time.time()
    assert left < LIFETIME
    # And as long as the balancer's checks take to see it.
    time.sleep(max(left, 0) + 8)


def page(road: Road) -> str:
    """Return the backend that answers somebody who goes on past the browser's warning."""
    done = road.operator("curl", "-sSk", "--max-time", "5", f"https://{NAME}/lb.html")
    found = re.search(r"backend-\d+", done.stdout)
    return found.group() if found else ""


def test_the_site_is_served_by_all_that_answer_on_tcp_and_by_no_others(road: Road) -> None:
    status = road.certsync("status")
    assert status.status == 3
    rows = {each["name"]: each for each in road.status()["rows"]}
    for machine in road.backends:
        assert rows[machine.name]["good"] is False
        assert rows[machine.name]["pool"].startswith("down: ")
    # Nobody is served who does not look away.
    assert road.page() == ""
    assert {page(road) for _ in range(9)} == {machine.name for machine in road.backends}
    off = road.replicas[0]
    off.sh("systemctl stop nginx && sleep 6")
    left = {machine.name for machine in road.backends} - {off.name}
    assert {page(road) for _ in range(8)} == left
    off.sh("systemctl start nginx && sleep 6")
    assert {page(road) for _ in range(9)} == {machine.name for machine in road.backends}


def test_people_are_told_by_the_hourly_run(road: Road) -> None:
    ended = road.on_issuer("renew")
    assert ended.status != 0
    titles = [message["title"] for message in arrived(road)]
    assert f"{NAME}: the certificate has expired" in titles


def test_a_deploy_that_cannot_renew_it_takes_out_nobody(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 1
    assert {page(road) for _ in range(9)} == {machine.name for machine in road.backends}


def test_with_refuse_it_is_not_served(road: Road) -> None:
    road.edit("[balancing]\n", '[balancing]\non_certificate_failure = "refuse"\n')
    ended = road.deploy()
    assert ended.status == 1
    assert "tls-unverified" not in road.haproxy_cfg()
    time.sleep(4)
    assert {page(road) for _ in range(6)} == {""}
    assert "unverified" not in json.dumps(road.status()["rows"])

"""What runs by night: cron, the timer, an environment that broke, another version, who is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from certsync.issuer.store import STATE_SCHEMA
from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road

STATE = "/var/lib/certsync/state.json"
VENV = "/opt/certsync/current"
ALERTS = "/run/alerts"
SECRET = "s3cr3t-path"

SERVICE = f"""
import http.server, json, sys
class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with open("{ALERTS}", "a") as file:
            print(self.command, self.path, body, file=file)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_POST = do_GET
http.server.HTTPServer(("0.0.0.0", 8099), Service).serve_forever()
"""
"""A service that takes messages and heartbeats, and writes down what came."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet of two backends that tells people, monitoring and a heartbeat."""
    with bring_up(Lab("unattended", backends=2), prepared=True) as lab:
        lab.ca.machine.sh(
            "cat > /run/service.py; systemd-run -q --unit=service python3 /run/service.py",
            input=SERVICE,
        )
        road = Road(lab, tmp_path_factory.mktemp("unattended"))
        road.edit(
            "[ca]\n",
            '[notify]\nevents = ["run-failed", "behind", "expiring"]\n'
            'heartbeat_url = "http://203.0.113.3:8099/alive"\n\n'
            '[metrics]\nfolder = "/var/lib/metrics"\n\n[ca]\n',
        )
        lab.backends[0].sh("mkdir /var/lib/metrics")
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        road.issuer.sh(
            "certsync notify --set && apt-get install -y -qq faketime",
            input=f"json://203.0.113.3:8099/{SECRET}\n",
        )
        yield road


def heard(road: Road) -> list[str]:
    """Return what the service was sent, and forget it."""
    return road.lab.ca.machine.sh(f"cat {ALERTS} 2>/dev/null; rm -f {ALERTS}").splitlines()


def test_cron_starts_a_run_and_its_output_is_in_the_journal(road: Road) -> None:
    issuer = road.issuer
    line = issuer.sh("grep -v '^#' /etc/cron.d/certsync | grep renew")
    minute, hour, *_rest = line.split()
    assert 1 <= int(minute) <= 58
    assert hour == "*"
    # Every minute instead of once in an hour: the line is otherwise as it is.
    issuer.sh(
        "systemctl unmask -q cron && sed -i 's/^[0-9]* \\*/* */; s/sleep [0-9]*/sleep 0/' "
        "/etc/cron.d/certsync && systemctl start cron"
    )
    try:
        issuer.sh(
            "for try in $(seq 80); do journalctl -q -t certsync | grep -q 'nothing was due' "
            "&& exit 0; sleep 1; done; exit 1"
        )
    finally:
        issuer.sh("systemctl mask -q --now cron")
    assert road.memory()["runs"]["renew"]["exit"] == 0
    ended = road.deploy()
    assert (ended.status, "1 change" in ended.stderr) == (0, True), ended.everything
    assert issuer.sh("grep renew /etc/cron.d/certsync | grep -v '^#'") == line


def test_a_good_run_is_seen_by_monitoring_and_the_heartbeat(road: Road) -> None:
    heard(road)
    assert road.renew().status == 0
    assert heard(road) == ["GET /alive "]
    text = road.issuer.sh("cat /var/lib/metrics/certsync.prom; stat -c %a /var/lib/metrics/*.prom")
    for backend in ("backend-01", "backend-02"):
        labels = f'{{lineage="{NAME}",backend="{backend}"}}'
        assert f"certsync_backend_in_sync{labels} 1" in text
        left = text.partition(f"certsync_certificate_days_left{labels} ")[2].split()[0]
        # A certificate of this minute has 90 days, in thousandths.
        assert 89.9 < float(left) <= 90
    assert f'certsync_generation{{lineage="{NAME}"}} 1' in text
    assert text.splitlines()[-1] == "644"


def test_one_backend_of_two_that_is_off_is_told_once_and_once_when_it_is_over(road: Road) -> None:
    replica = road.replicas[0]
    replica.cut()
    try:
        heard(road)
        for _ in range(2):
            ended = road.renew()
            assert ended.status == 1
            assert "error: generation 0001 is not served by all backends: backend-02: " in (
                ended.stderr
            )
        told = heard(road)
    finally:
        replica.join()
    assert len(told) == 1
    assert "backend-02" in told[0]
    assert road.renew().status == 0
    over = heard(road)
    assert [line.split()[0] for line in over] == ["POST", "GET"]
    assert road.renew().status == 0
    assert heard(road) == ["GET /alive "]
    assert not road.logged(road.issuer, SECRET)


def test_of_two_backends_one_that_is_off_holds_back_no_renewal(road: Road) -> None:
    replica, orders = road.replicas[0], road.lab.ca.orders()
    replica.cut()
    try:
        ended = road.renew("--force")
        assert ended.status == 1
        assert "backend-02: " in ended.stderr.split("error: ")[1]
        assert road.generations() == {"backend-01": "0002", "backend-02": "0001"}
    finally:
        replica.join()
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert road.generations() == {"backend-01": "0002", "backend-02": "0002"}
    assert road.lab.ca.orders() == orders + 1
    # The balancer's own checks take it back into service in some seconds.
    for _ in range(20):
        if (pages := road.pages()) == {"backend-01", "backend-02"}:
            break
        time.sleep(1)
    assert pages == {"backend-01", "backend-02"}


def test_the_first_run_after_a_failure_of_certsyncs_own_is_told_of_too(road: Road) -> None:
    heard(road)
    road.issuer.sh("mv /etc/certsync/fleet.json /etc/certsync/fleet.json.kept")
    try:
        ended = road.renew()
    finally:
        road.issuer.sh("mv /etc/certsync/fleet.json.kept /etc/certsync/fleet.json")
    assert ended.status == 1
    assert "fleet.json does not exist: this host is not an issuer" in ended.stderr
    status = road.certsync("status")
    assert status.status == 3
    assert "fleet.json does not exist" in status.stderr
    assert road.renew().status == 0
    assert road.certsync("status").status == 0


HOLD = """
import time
from certsync.programs import lock
with lock.hold("certsync deploy by operator@laptop"):
    time.sleep(60)
"""


def test_a_run_that_finds_the_lock_held_names_the_holder_and_is_no_failure(road: Road) -> None:
    holder = road.issuer.sh(
        f"cat > /run/hold.py; {VENV}/bin/python /run/hold.py >/dev/null 2>&1 & echo $!; sleep 1",
        input=HOLD,
    ).strip()
    try:
        ended = road.renew()
    finally:
        road.issuer.sh(f"kill {holder}")
    assert ended.status == 75
    assert "error: certsync deploy by operator@laptop has held the fleet lock for " in ended.stderr
    assert road.renew().status == 0


# Another version, and none


def test_an_environment_that_does_not_start_is_told_of_with_what_to_do(road: Road) -> None:
    issuer = road.issuer
    issuer.sh(f"mv {VENV}/lib {VENV}/lib.gone")
    try:
        status, told = issuer.attempt("systemd-cat -t certsync /usr/local/lib/certsync/renew")
        assert (status, told) == (1, "")
        told = issuer.sh("journalctl -q -t certsync -p err -n 20")
        assert "error: certsync's virtual environment does not start: " in told
        assert "hint: was Python upgraded? certsync deploy FLEET, from your machine" in told
        ended = road.certsync("status")
        assert ended.status == 3
        assert "backend-01: certsync does not answer there" in ended.stderr
        ended = road.deploy()
        assert ended.status == 0, ended.everything
    finally:
        issuer.sh(f"test -e {VENV}/lib || mv {VENV}/lib.gone {VENV}/lib")
    assert road.renew().status == 0


def test_another_version_understands_the_state_or_refuses_it_and_leaves_it_alone(
    road: Road,
) -> None:
    issuer = road.issuer
    newer = "/opt/certsync/newer"
    issuer.sh(
        f"cp -a $(readlink -f {VENV}) {newer} && cd {newer}/lib/python3*/site-packages/certsync "
        "&& sed -i 's/^STATE_SCHEMA = .*/STATE_SCHEMA = 9/' issuer/store.py"
    )
    run = f"{newer}/bin/python -m certsync renew"
    # The newer one reads what the older one wrote.
    status, told = issuer.attempt(run)
    assert (status, "nothing was due" in told) == (0, True), told
    assert json.loads(issuer.sh(f"cat {STATE}"))["schema"] == 9
    before = issuer.sh(f"sha256sum {STATE}")
    ended = road.renew()
    assert ended.status == 1
    assert f"{STATE} has schema 9, but this certsync reads up to {STATE_SCHEMA}" in ended.stderr
    assert "hint: a newer certsync wrote it: deploy again with that version" in ended.stderr
    assert issuer.sh(f"sha256sum {STATE}") == before
    issuer.sh(f"rm -r {newer} && rm {STATE}")
    assert road.renew().status == 0


# By the timer


def test_a_timer_takes_crons_place_and_its_hardened_service_does_all_of_it(road: Road) -> None:
    road.edit("[notify]\n", '[renewal]\nscheduler = "systemd"\nevery_hours = 4\n\n[notify]\n')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    issuer = road.issuer
    assert issuer.attempt("test -e /etc/cron.d/certsync")[0] == 1
    assert issuer.sh("systemctl is-active certsync-renew.timer") == "active\n"
    hours = issuer.sh("systemctl show -p TimersCalendar certsync-renew.timer")
    assert len(hours.split("OnCalendar=*-*-* ")[1].split(":")[0].split(",")) == 6
    # A whole renewal, with everything that it may do: order, push, test nginx, activate, tell.
    issuer.sh("mkdir /run/systemd/system/certsync-renew.service.d")
    issuer.sh(
        "cat > /run/systemd/system/certsync-renew.service.d/force.conf && systemctl daemon-reload",
        input="[Service]\nExecStart=\nExecStart=/usr/local/lib/certsync/renew --force\n",
    )
    heard(road)
    road.spare_the_ca_a_serial()
    issuer.sh("systemctl start certsync-renew.service")
    assert road.generations() == {"backend-01": "0003", "backend-02": "0003"}
    assert heard(road) == ["GET /alive "]
    issuer.sh("rm -r /run/systemd/system/certsync-renew.service.d; systemctl daemon-reload")
    exposed = issuer.sh("systemd-analyze security --no-pager certsync-renew.service | tail -n 1")
    print(exposed)
    assert float(exposed.split(": ")[1].split()[0]) < 6


def test_cron_takes_the_timers_place_again(road: Road) -> None:
    road.edit('scheduler = "systemd"\nevery_hours = 4\n', "")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    issuer = road.issuer
    assert issuer.attempt("ls /etc/systemd/system/certsync-renew.timer")[0] != 0
    assert "/usr/local/lib/certsync/renew" in issuer.sh("cat /etc/cron.d/certsync")

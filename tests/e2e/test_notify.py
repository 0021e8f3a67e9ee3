"""A fleet that tells people: messages, metrics and a heartbeat leave the issuer, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Ended, Road

PORT = 8080
SECRET = "swordfish-7"
BEAT = "heartbeat-9"
METRICS = "/var/lib/prometheus/node-exporter"
URLS = "/etc/certsync/notify-urls"
ARRIVED = "/srv/arrived"

SERVICE = f"""\
import pathlib
from http.server import BaseHTTPRequestHandler, HTTPServer
class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("{ARRIVED}", "a") as file:
            file.write(self.path + " " + body + "\\n")
        self.send_response(500 if pathlib.Path("/srv/refuse").exists() else 200)
        self.send_header("Content-Length", "0"); self.end_headers()
    def do_GET(self):
        with open("{ARRIVED}", "a") as file:
            file.write(self.path + " {{}}\\n")
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *arguments):
        pass
HTTPServer(("0.0.0.0", {PORT}), Service).serve_forever()
"""
"""What takes messages, and heartbeats, on the CA host."""

A_RUN = """\
import json, pathlib
from datetime import datetime, timedelta, timezone
from certsync.issuer.monitoring import alerts, heartbeat, prometheus, notification, textfile
from certsync.model.proof import Proof
from certsync.issuer.store import Store
store = Store()
fleet, now = store.fleet(), datetime.now(timezone.utc)
proven = json.loads(pathlib.Path("/run/proven.json").read_text())
proofs = tuple(Proof.from_json(each) for each in proven["proofs"])
since = now - timedelta(days=2)
seen = alerts.Observed(fleet.name, now, error="the CA refuses", backends={"backend-02": since})
news = alerts.judge((), seen, fleet.notify.events)
sent = notification.send(news.messages, store, print)
print("told", sorted(each.key for each in news.after(sent) if each.told))
readings = prometheus.Readings(fleet.name, now, proofs, int(proven["current"]), now, now)
print("metrics", textfile.write(fleet.metrics.folder, prometheus.text(readings)) or "written")
print("heartbeat", heartbeat.ping(fleet.notify.heartbeat_url) or "heard")
"""
"""What a run at night does at its end."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet that has events, a heartbeat and metrics."""
    with bring_up(Lab("notify")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("notify"))
        (lab.ca.machine.root / "srv/service.py").write_text(SERVICE)
        lab.ca.machine.sh("systemd-run -q --unit=service /usr/bin/python3 /srv/service.py")
        address = f"{lab.ca.machine.address}:{PORT}"
        road.issuer.sh(f"mkdir -p {METRICS}")
        road.edit(
            "[site]\n",
            '[notify]\nevents = ["run-failed", "behind"]\n'
            f'heartbeat_url = "http://{address}/{BEAT}"\n\n'
            f'[metrics]\nfolder = "{METRICS}"\n\n[site]\n',
        )
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def on_issuer(road: Road, command: str, text: str = "") -> Ended:
    status, shown = road.issuer.attempt(command, input=text)
    assert SECRET not in shown
    return Ended(status, shown, "")


def a_run(road: Road) -> str:
    command = "certsync prove --json > /run/proven.json; /opt/certsync/current/bin/python -"
    return on_issuer(road, command, A_RUN).stdout


def arrived(road: Road, at: str = SECRET) -> list[dict[str, str]]:
    """Return what came to a path of the service, which then forgets all."""
    path = road.lab.ca.machine.root / ARRIVED.lstrip("/")
    lines = path.read_text().splitlines() if path.exists() else []
    road.lab.ca.machine.sh(f"rm -f {ARRIVED}")
    return [json.loads(line[len(at) + 1 :]) for line in lines if line.startswith(f"/{at} ")]


def test_a_fleet_with_events_has_what_sends_them_and_is_another_release(road: Road) -> None:
    assert on_issuer(road, "readlink /opt/certsync/current").stdout.strip().endswith("-notify")
    assert on_issuer(road, "/opt/certsync/current/bin/python -c 'import apprise'").status == 0


def test_while_no_url_is_set_a_warning_names_the_command_that_sets_one(road: Road) -> None:
    told = a_run(road)
    assert (
        "the fleet file asks for notifications, but no URL is set: "
        "on the issuer, run `sudo certsync notify --set`\ntold []\n"
    ) in told
    tried = on_issuer(road, "certsync notify --test")
    assert tried.stdout == "error: no URL is set\nhint: `certsync notify --set`\n"
    assert tried.status == 1
    arrived(road)


def test_urls_that_are_refused_change_nothing(road: Road) -> None:
    ended = on_issuer(road, "certsync notify --set", f"json://ok/\njsn://203.0.113.3/{SECRET}")
    assert ended.status == 1
    assert ended.stdout.startswith("error: apprise cannot send to line 2 (jsn); nothing was")
    assert not (road.issuer.root / URLS.lstrip("/")).exists()


def test_a_url_is_kept_where_only_root_can_read_it(road: Road) -> None:
    url = f"json://{road.lab.ca.machine.address}:{PORT}/{SECRET}"
    ended = on_issuer(road, "certsync notify --set", url)
    assert ended.stdout == f"1 service in {URLS}; test it: certsync notify --test\n"
    assert on_issuer(road, f"stat -c '%a %U' {URLS}").stdout == "600 root\n"
    assert (road.issuer.root / URLS.lstrip("/")).read_text() == f"{url}\n"


def test_a_test_message_arrives(road: Road) -> None:
    ended = on_issuer(road, "certsync notify --test")
    assert ended.stdout == "line 1 (json): accepted\n1 of 1 accepted the test message\n"
    assert ended.status == 0
    (message,) = arrived(road)
    assert message["title"] == f"{NAME}: a test message"


def test_what_a_run_has_to_tell_leaves_the_issuer(road: Road) -> None:
    told = a_run(road)
    assert told.splitlines()[-3:] == [
        "told ['behind backend-02', 'run-failed']",
        "metrics written",
        "heartbeat heard",
    ]
    first, second = arrived(road)
    assert first["title"] == f"{NAME}: a run has failed"
    assert "error: the CA refuses" in first["message"]
    assert second["title"] == f"{NAME}: backend-02 is behind"


def test_a_heartbeat_reaches_its_monitor(road: Road) -> None:
    arrived(road)
    a_run(road)
    assert arrived(road, BEAT)


def test_the_metrics_are_whole_and_for_everybody_to_read(road: Road) -> None:
    text = on_issuer(road, f"cat {METRICS}/certsync.prom").stdout
    assert f'certsync_backend_in_sync{{lineage="{NAME}",backend="backend-03"}} 1\n' in text
    assert f'certsync_generation{{lineage="{NAME}"}} 1\n' in text
    assert on_issuer(road, f"ls -A {METRICS}").stdout == "certsync.prom\n"
    assert on_issuer(road, f"stat -c %a {METRICS}/certsync.prom").stdout == "644\n"


def test_a_service_that_refuses_or_is_away_is_told_by_number_and_scheme(road: Road) -> None:
    ca = road.lab.ca.machine
    for broken, mended in (
        ("touch /srv/refuse", "rm /srv/refuse"),
        ("systemctl kill -s STOP service", "systemctl kill -s CONT service"),
    ):
        ca.sh(broken)
        ended = on_issuer(road, "certsync notify --test")
        told = a_run(road)
        ca.sh(mended)
        assert ended.status == 1
        assert ended.stdout.startswith("line 1 (json): not accepted\n0 of 1 accepted")
        assert "line 1 (json): 2 of 2 messages not accepted" in told
        assert "told []" in told
        assert BEAT not in told


def test_the_next_deploy_changes_nothing(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    assert SECRET not in ended.everything


def test_the_secret_is_in_one_file_and_no_journal(road: Road) -> None:
    for machine in (*road.lab.backends, road.lab.balancer):
        journal = machine.sh("journalctl --no-pager -q")
        assert len(journal.splitlines()) > 50
        assert SECRET not in journal
        assert BEAT not in journal
    found = on_issuer(road, f"grep -rlF -e {SECRET[:-1]} /etc /var /opt /root /tmp /run /srv; true")
    assert found.stdout.splitlines() == [URLS]


def test_without_events_nothing_that_sends_is_installed(road: Road) -> None:
    road.edit('events = ["run-failed", "behind"]', "events = []")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert not on_issuer(road, "readlink /opt/certsync/current").stdout.strip().endswith("-notify")
    assert on_issuer(road, "/opt/certsync/current/bin/python -c 'import apprise'").status == 1
    tried = on_issuer(road, "certsync notify --test")
    assert tried.stdout.startswith("error: apprise, which sends the messages, is not installed ")

"""Through the balancer as if it were not there: the client's address, sessions, HTTP, limits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import NAME, Road

ECHO = """\
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        said = json.dumps(self.headers.items()).encode()
        self.send_response(200); self.send_header("Content-Length", len(said))
        if self.command == "HEAD": self.send_header("Alt-Svc", 'h3=":443"')
        self.end_headers()
        if self.command == "HEAD": return
        self.wfile.write(said)
    do_HEAD = do_POST = do_GET
ThreadingHTTPServer(("127.0.0.1", 3000), Echo).serve_forever()
"""
FORGED = "192.0.2.66"
"""Where a client says that it comes from."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet whose backends pass everything on to an application that repeats it."""
    with bring_up(Lab("through"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("through"))
        for machine in lab.backends:
            (machine.root / "srv/echo.py").write_text(ECHO)
            machine.sh("systemd-run -q --unit=echo /usr/bin/python3 /srv/echo.py")
        road.edit('kind = "static"', 'kind = "proxy"\nupstream = "127.0.0.1:3000"')
        # What holds where nothing is said, and not what the other tests are spared.
        road.edit("slow_start_seconds = 0\n", "")
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        assert " slowstart 30s\n" in road.haproxy_cfg()
        yield road


def own_address(road: Road, version: int) -> str:
    """Return the address from which the operator reaches the balancer."""
    balancer = road.lab.balancer
    target = balancer.address6 if version == 6 else balancer.address
    route = road.operator("ip", "-j", "route", "get", target).stdout
    return str(json.loads(route)[0]["prefsrc"])


def curl(road: Road, *words: str) -> str:
    roots = str(road.lab.ca.roots)
    done = road.operator("curl", "-sS", "--max-time", "10", "--cacert", roots, *words)
    return done.stdout


def headers(answer: str) -> dict[str, list[str]]:
    """Return what the application was told."""
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer):
        found.setdefault(name.lower(), []).append(value)
    return found


def logged(road: Road, words: str, count: int = 0) -> list[str]:
    """Return the clients' addresses in nginx's access logs on lines with these words.

    nginx writes a line when the answer is on its way: so many are waited for.
    """
    deadline = time.monotonic() + 10
    while len(found := _logged(road, words)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _logged(road: Road, words: str) -> list[str]:
    lines = [
        line
        for machine in road.backends
        for line in (machine.root / "var/log/nginx/access.log").read_text().splitlines()
    ]
    return [line.split()[0] for line in lines if words in line]


# The client's address


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_application_and_log_are_told_the_clients_address_whatever_it_says_itself(
    road: Road, scheme: str, version: int
) -> None:
    own, path = own_address(road, version), f"/{scheme}-{version}"
    lies = [f"X-Forwarded-For: {FORGED}", f"X-Real-IP: {FORGED}", "X-Forwarded-Proto: gopher",
            f"Forwarded: for={FORGED}"]  # fmt: skip
    words = [word for lie in lies for word in ("-H", lie)]
    for _ in road.backends:
        told = headers(curl(road, f"-{version}", *words, f"{scheme}://{NAME}{path}"))
        assert told["x-forwarded-for"] == told["x-real-ip"] == [own]
        assert told["x-forwarded-proto"] == [scheme]
        assert "forwarded" not in told
    count = len(road.backends)
    assert logged(road, path, count) == [own] * count


def test_the_balancer_uses_the_port_for_it_on_every_backend(road: Road) -> None:
    servers = re.findall(r"server (\S+) (\S+) send-proxy-v2", road.haproxy_cfg())
    wanted = {(each.name, f"{each.address}:8443") for each in road.backends}
    assert set(servers) == wanted


PROXY_HEADER = f"PROXY TCP4 {FORGED} 203.0.113.11 1234 8443\\r\\n"
SPEAK = """\
import socket, ssl, sys
address, port, header = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape")
plain = socket.create_connection((address, port), timeout=5)
plain.sendall(header.encode())
context = ssl.create_default_context(); context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
got = b""
try:
    with context.wrap_socket(plain, server_hostname="passthrough.example.com") as tls:
        host = b"Host: passthrough.example.com\\r\\nConnection: close"
        tls.sendall(sys.argv[4].encode() + b" HTTP/1.1\\r\\n" + host + b"\\r\\n\\r\\n")
        while part := tls.recv(65536):
            got += part
except OSError as error:
    pass
print(f"{len(got)} bytes", got[:20])
"""


PLAIN = """\
import socket, sys
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
plain.sendall(sys.argv[3].encode().decode("unicode_escape").encode())
print(len(plain.recv(65536)), "bytes")
"""


def spoken(
    road: Road, address: str, port: int, header: str = "", request: str = "GET /forged"
) -> str:
    done = road.operator("python3", "-c", SPEAK, address, str(port), header, request)
    return done.stdout.strip()


def test_a_forged_proxy_header_reaches_nobody(road: Road) -> None:
    replica, balancer = road.replicas[0], road.lab.balancer
    # UFW is not even switched on here: it is nginx that answers none but balancers.
    replica.sh("iptables -S INPUT | grep -qx -e '-P INPUT ACCEPT'")
    for address in (replica.address, replica.address6):
        assert spoken(road, address, 8443, PROXY_HEADER) == "0 bytes b''"
        assert spoken(road, address, 8443) == "0 bytes b''"
        # Nor does what nginx cannot read, which it answers before it looks at anything else.
        assert spoken(road, address, 8443, PROXY_HEADER, "GET /a b c") == "0 bytes b''"
        without_tls = f"{PROXY_HEADER}GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\n\\r\\n"
        done = road.operator("python3", "-c", PLAIN, address, "8443", without_tls)
        assert done.stdout.strip() == "0 bytes"
    assert "HTTP/1.1 400" in spoken(road, replica.address, 443, "", "GET /a b c")
    for address in (replica.address, balancer.address, balancer.address6):
        assert spoken(road, address, 443, PROXY_HEADER) == "0 bytes b''"
    assert spoken(road, replica.address, 443).endswith("b'HTTP/1.1 200 OK\\r\\nSer'")
    assert FORGED not in logged(road, "/forged")


def test_who_reaches_a_backend_by_itself_is_no_balancer(road: Road) -> None:
    replica = road.replicas[0]
    own = own_address(road, 4)
    for scheme, port in (("http", 80), ("https", 443)):
        told = headers(
            curl(road, "--resolve", f"{NAME}:{port}:{replica.address}",
                 "-H", f"X-Forwarded-For: {FORGED}", f"{scheme}://{NAME}/direct")
        )  # fmt: skip
        assert told["x-forwarded-for"] == [own]


def test_the_switch_is_turned_off_and_on_without_a_failed_connection(road: Road) -> None:
    addresses = [road.lab.balancer.address, road.lab.balancer.address6]
    target = Target(NAME, str(road.lab.ca.roots))
    with Load(road.lab.operator_argv(), NEW, addresses, target, count=400, pause=0.01) as load:
        road.edit("[balancing]\n", "[balancing]\nproxy_protocol = false\n")
        assert road.as_announced("deploy").status == 0
        assert "send-proxy" not in road.haproxy_cfg()
        told = headers(curl(road, "-4", f"https://{NAME}/off"))
        assert told["x-forwarded-for"] == [road.lab.balancer.address]
        road.edit("proxy_protocol = false", "proxy_protocol = true")
        assert road.as_announced("deploy").status == 0
        assert road.haproxy_cfg().count("send-proxy-v2") == 2 * len(road.backends)
        told = headers(curl(road, "-4", f"https://{NAME}/on"))
        assert told["x-forwarded-for"] == [own_address(road, 4)]
        tally = load.over()
    print(tally.requests, "requests", tally.backends)
    assert tally.watched
    assert not tally.failed
    assert set(tally.backends) == {machine.name for machine in road.backends}


def test_backends_keep_the_port_that_a_balancer_could_not_let_go_of(road: Road) -> None:
    balancer, folder = road.lab.balancer, "/etc/haproxy"
    road.edit("[balancing]\n", "[balancing]\nproxy_port = 9443\n")
    balancer.sh(f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}")
    ended = road.deploy()
    balancer.sh(f"umount {folder}")
    assert ended.status == 1, ended.everything
    assert "error: balancer: Off what is about to go" in ended.stderr
    for machine in road.backends:
        assert "listen 9443" not in machine.sh("nginx -T 2>/dev/null")
    assert road.pages() == {machine.name for machine in road.backends}
    road.edit("[balancing]\nproxy_port = 9443\n", "[balancing]\n")
    ended = road.deploy()
    assert ended.status == 0, ended.everything


def test_another_address_of_the_balancers_own_cuts_off_nobody(road: Road) -> None:
    balancer, target = road.lab.balancer, Target(NAME, str(road.lab.ca.roots))
    own = f'address = "{balancer.address}"\n'
    # An address that it does not come from: a host given this one no longer trusts the real one.
    elsewhere = f'{own}private_address = "203.0.113.98"\n'
    addresses, operator = [balancer.address], road.lab.operator_argv()
    with Load(operator, NEW, addresses, target, count=200, pause=0.05) as load:
        road.edit(own, elsewhere)
        ended = road.deploy()
        assert ended.status == 1, ended.everything
        assert "balancer: it sends no backend the client's address" in ended.stderr
        assert "send-proxy" not in road.haproxy_cfg()
        road.edit(elsewhere, own)
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        assert road.haproxy_cfg().count("send-proxy-v2") == 2 * len(road.backends)
        tally = load.over()
    print(tally.requests, "requests", tally.backends)
    assert tally.watched
    assert not tally.failed


def test_who_does_not_answer_the_balancer_there_is_named_and_reached_on_443(road: Road) -> None:
    # And whoever is up has its full share at once, for who answers to be seen.
    quick = "proxy_protocol = true\nproxy_port = 9443\nslow_start_seconds = 0"
    road.edit("proxy_protocol = true", quick)
    balancer, (stranger, deaf) = road.lab.balancer, road.replicas
    deaf.sh("iptables -I INPUT -p tcp --dport 9443 -j DROP")
    # To one of them the balancer comes from an address that the fleet file does not know.
    other = "203.0.113.99"
    balancer.sh(f"ip address add {other}/32 dev host0")
    balancer.sh(f"ip route replace {stranger.address}/32 dev host0 src {other}")
    ended = road.as_announced("deploy")
    assert ended.status == 1, ended.everything
    for machine in (stranger, deaf):
        assert f"server {machine.name} {machine.address}:443\n" in road.haproxy_cfg()
        assert (
            f"{machine.name}: balancer sends it connections without the client's address, because "
            "its port 9443 did not answer balancer (allow it in the firewall, or set "
            "proxy_protocol = false under [balancing])"
        ) in ended.stderr
    assert f"server {road.issuer.name} {road.issuer.address}:9443 send-pro" in road.haproxy_cfg()
    assert road.pages() == {machine.name for machine in road.backends}
    deaf.sh("iptables -D INPUT -p tcp --dport 9443 -j DROP")
    balancer.sh(f"ip route del {stranger.address}/32; ip address del {other}/32 dev host0")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    for machine in (stranger, deaf):
        assert f"server {machine.name} {machine.address}:9443 send-proxy-v2\n" in (
            road.haproxy_cfg()
        )


# HTTP


def test_a_site_that_promises_http_3_is_told_that_it_cannot_be_kept(road: Road) -> None:
    told = road.certsync("status")
    assert told.status == 0
    assert f'{NAME} advertises HTTP/3 (Alt-Svc: h3=":443"), but UDP is not passed' in told.stdout


def test_http_2_is_agreed_on_with_the_backend(road: Road) -> None:
    assert curl(road, "-o", "/dev/null", "-w", "%{http_version}", f"https://{NAME}/") == "2"


def test_redirects_and_hsts_are_as_the_fleet_file_says_and_challenges_are_kept_out(
    road: Road,
) -> None:
    assert "strict-transport" not in curl(road, "-D", "-", f"https://{NAME}/").lower()
    road.edit("[site]\n", "[site]\nredirect = true\nhsts_seconds = 600\n")
    road.edit("[balancing]\n", "[balancing]\nconnections_per_client = 60\n")
    road.edit("[site]\n", '[sessions]\nstickiness = "source"\n\n[site]\n')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    shown = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"]
    assert curl(road, *shown, f"http://{NAME}/a?b=c") == f"301 https://{NAME}/a?b=c"
    assert curl(road, *shown, "-d", "x", f"http://{NAME}/a") == f"308 https://{NAME}/a"
    challenge = f"http://{NAME}/.well-known/acme-challenge/none"
    assert curl(road, *shown, challenge) == "404 "
    told = curl(road, "-D", "-", f"https://{NAME}/")
    assert re.findall(r"(?im)^strict-transport-security: (.*)$", told) == ["max-age=600"]
    assert "strict-transport" not in curl(road, "-D", "-", f"http://{NAME}/").lower()


# Sessions, limits, manners


def test_with_stickiness_a_client_comes_to_the_same_backend_after_a_reload_too(road: Road) -> None:
    first = road.pages(5)
    assert len(first) == 1
    # One that was reloaded a moment ago does not know yet what the one before it remembered.
    road.lab.balancer.sh(f"{UPTIME} && systemctl reload haproxy && sleep 4")
    assert own_address(road, 4) in remembered(road)
    assert road.pages(5) == first


def test_deploys_that_follow_close_upon_each_other_forget_no_client(road: Road) -> None:
    first = road.pages(1)
    line = "[balancing]\nmax_connections = 2000\n"
    for before, after in (("[balancing]\n", line), (line, "[balancing]\n")):
        road.edit(before, after)
        assert road.deploy().status == 0
    road.lab.balancer.sh(UPTIME)
    assert own_address(road, 4) in remembered(road)
    assert road.pages(5) == first


UPTIME = (
    "for try in $(seq 60); do sleep 0.2; up=$(echo show info | socat - /run/haproxy/admin.sock "
    "| sed -n 's/^Uptime_sec: //p'); [ \"$up\" -lt 6 ] || break; done"
)


def remembered(road: Road) -> str:
    """Return what HAProxy remembers of clients."""
    return road.lab.balancer.sh("echo show table tls | socat - /run/haproxy/admin.sock")


def test_more_connections_than_a_client_may_make_are_refused(road: Road) -> None:
    balancer = road.lab.balancer
    answered = road.operator(
        "sh", "-c",
        f"for try in $(seq 90); do curl -s -o /dev/null -w '%{{http_code}}\\n' --max-time 3 "
        f"http://{balancer.address}/; done | sort | uniq -c",
    ).stdout  # fmt: skip
    assert " 000" in answered
    let_in = re.search(r"(\d+) 404", answered)
    assert let_in is not None
    assert int(let_in[1]) <= 61
    # Another address is another client.
    shown = ["-o", "/dev/null", "-w", "%{http_code}", f"https://{NAME}/"]
    assert curl(road, "-6", *shown) == "200"
    # The next tests come from the same address as this one.
    wait_until_forgotten(balancer, own_address(road, 4))
    assert curl(road, "-4", *shown) == "200"


def wait_until_forgotten(balancer: Machine, client: str) -> None:
    """Wait until the balancer counts next to no connections of a client, and make none for it.

    HAProxy counts over ten seconds and lets those fade over ten more. That one is let in is not
    enough: a deploy makes several.
    """
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        table = balancer.sh("echo show table clients | socat - /run/haproxy/admin.sock")
        rates = re.findall(rf"key=\S*{re.escape(client)} .*conn_rate\(10000\)=(\d+)", table)
        if all(int(rate) <= 5 for rate in rates):
            return
        time.sleep(0.5)
    raise AssertionError(table)


def test_the_log_says_for_which_name_and_to_whom_a_connection_went(road: Road) -> None:
    lines = road.lab.balancer.sh("journalctl -q --no-pager -t haproxy -n 400")
    found = re.findall(rf" tls tls/(backend-\d+) .* {re.escape(NAME)}$", lines, re.MULTILINE)
    assert found


def test_the_statistics_are_for_who_is_logged_in_on_the_balancer(road: Road) -> None:
    balancer = road.lab.balancer
    assert "backend-02" in balancer.sh("curl -s http://127.0.0.1:8404/")
    for address in (balancer.address, balancer.address6):
        assert refuses(road, address, 8404)
        assert refuses(road, address, 10000)


def refuses(road: Road, address: str, port: int) -> bool:
    probe = f"timeout 3 bash -c ': < /dev/tcp/{address}/{port}'"
    return road.operator("sh", "-c", probe).status != 0


def test_the_most_connections_are_what_the_machine_is_good_for(road: Road) -> None:
    told = road.lab.balancer.sh("echo show info | socat - /run/haproxy/admin.sock")
    found = dict(re.findall(r"(?m)^(Maxconn|Maxsock): (\d+)$", told))
    assert int(found["Maxconn"]) % 1000 == 0
    files = int(road.lab.balancer.sh("ulimit -Hn"))
    assert 1000 <= int(found["Maxconn"]) < int(found["Maxsock"]) <= files


def test_a_second_deploy_changes_nothing(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr

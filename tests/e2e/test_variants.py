"""Other fleets than the tutorial's: a firewall, an application, another key, another SSH port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road

APPLICATION = """\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        for key in ("Host", "X-Forwarded-Proto"):
            self.wfile.write(f"{key}={self.headers[key]}\\n".encode())
HTTPServer(("127.0.0.1", 3000), Echo).serve_forever()
"""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet that differs from the tutorial's wherever the fleet file lets it."""
    with bring_up(Lab("variants")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("variants"))
        _run_application(road)
        _move_ssh(road)
        _move_nginx(road)
        road.edit('kind = "static"', 'kind = "proxy"\nupstream = "127.0.0.1:3000"')
        road.edit("[ca]\n", '[certificate]\nkey_type = "rsa-2048"\n\n[ca]\n')
        road.edit("[site]\n", "[firewall]\nenable = true\n\n[site]\n")
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def _run_application(road: Road) -> None:
    for machine in road.lab.backends:
        (machine.root / "srv/application.py").write_text(APPLICATION)
        machine.sh("systemd-run -q --unit=application /usr/bin/python3 /srv/application.py")


def _move_nginx(road: Road) -> None:
    """Give a host an /etc/nginx elsewhere, and an apt source that is broken."""
    road.replicas[1].sh(
        "mkdir /srv/nginx && ln -s ../srv/nginx /etc/nginx && "
        "echo 'deb https://packages.elsewhere.example ./' > /etc/apt/sources.list.d/broken.list"
    )


def _move_ssh(road: Road) -> None:
    replica = road.replicas[0]
    # The lab itself goes on using 22.
    replica.sh(
        "ufw allow 22/tcp; printf 'Port 22\\nPort 2222\\n' > /etc/ssh/sshd_config.d/port.conf "
        "&& systemctl restart ssh"
    )
    known = road.folder / "known_hosts"
    lines = (road.lab.folder / "known_hosts").read_text().splitlines()
    lines += [
        line.replace(replica.address, f"[{replica.address}]:2222", 1)
        for line in lines
        if line.startswith(f"{replica.address} ")
    ]
    known.write_text("\n".join(lines) + "\n")
    road.edit(f"{road.lab.folder}/known_hosts", str(known))
    road.edit(f'address = "{replica.address}"', f'address = "{replica.address}"\nssh_port = 2222')


def test_the_application_behind_is_told_the_name_and_that_it_was_https(road: Road) -> None:
    got = road.operator(
        "curl", "-sS", "--cacert", str(road.lab.ca.roots), f"https://{NAME}/anything"
    )
    assert got.stdout == f"Host={NAME}\nX-Forwarded-Proto=https\n"


def test_the_certificate_has_the_key_that_was_asked_for(road: Road) -> None:
    key = road.leaf(road.lab.balancer.address).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


def test_a_firewall_that_is_switched_on_lets_the_web_and_ssh_in(road: Road) -> None:
    for machine in (*road.lab.backends, road.lab.balancer):
        machine.sh("iptables -S INPUT | grep -qx -e '-P INPUT DROP'")
    assert "BEGIN CERTIFICATE" in road.shown_by(road.replicas[0].address)


def test_web_ports_of_the_backends_are_open_to_the_balancer_and_the_issuer_alone(
    road: Road,
) -> None:
    replica, issuer = road.replicas[0], road.issuer
    road.edit("[firewall]\nenable = true\n", '[firewall]\nweb_access = "balancers"\n')
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    probe = f"timeout 3 bash -c '< /dev/tcp/{replica.address}/443'"
    assert road.lab.balancer.attempt(probe)[0] == 0
    assert issuer.attempt(probe)[0] == 0
    assert road.replicas[1].attempt(probe)[0] != 0
    assert road.operator("sh", "-c", probe).status != 0
    # A replica reaches the issuer's port 80, where it forwards challenges, and not its 443.
    assert replica.attempt(f"timeout 3 bash -c '< /dev/tcp/{issuer.address}/80'")[0] == 0
    assert replica.attempt(f"timeout 3 bash -c '< /dev/tcp/{issuer.address}/443'")[0] != 0


def test_a_second_deploy_changes_nothing_here_either(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr


def test_a_replica_on_another_ssh_port_was_pushed_to_through_it(road: Road) -> None:
    pinned = road.issuer.sh("cat /var/lib/certsync-push/known_hosts")
    assert f"[{road.replicas[0].address}]:2222 ssh-ed25519 " in pinned
    assert road.current(road.replicas[0]) == "0001"


@contextmanager
def bashrc_begins_with(text: str, *machines: Machine) -> Iterator[None]:
    """Have SSH users' login shells begin so inside the block; set from outside, as they may end."""
    files = [machine.root / "home/admin/.bashrc" for machine in machines]
    before = [file.read_text() for file in files]
    for file, rest in zip(files, before, strict=True):
        file.write_text(f"{text}\n{rest}")
    try:
        yield
    finally:
        for file, rest in zip(files, before, strict=True):
            file.write_text(rest)


def test_what_login_shells_print_is_no_part_of_any_answer(road: Road) -> None:
    issuer, replica = road.issuer, road.replicas[0]
    # sudo has something to say there too.
    hosts = issuer.root / "etc/hosts"
    known = hosts.read_text()
    hosts.write_text(known.replace(issuer.name, "another-name"))
    with bashrc_begins_with("echo Welcome; printf 'no end'; echo careful >&2", issuer, replica):
        checked = road.certsync("check", "--online")
        assert checked.status == 0, checked.everything
        for machine in (issuer, replica):
            prints = "its login shell prints text when it runs a command ('Welcome')"
            assert f"note: {machine.name}: {prints}" in checked.stdout
        assert checked.stdout.count("/root/.bashrc") == 2
        # Files are written there, read there, and found as they should be.
        road.edit("[site]\n", "[site]\nhsts_seconds = 600\n")
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        assert "\n0 changes\n" in ended.stderr
        assert road.certsync("status").status == 0
        # One that the issuer exits with is its own, whatever else is said there.
        (issuer.root / "etc/certsync/fleet.json").rename(issuer.root / "srv/fleet.json")
        shown = road.certsync("remove-backend", replica.name, "--dry-run")
        (issuer.root / "srv/fleet.json").rename(issuer.root / "etc/certsync/fleet.json")
        assert "has not been deployed" in shown.stderr
    hosts.write_text(known)
    got = road.operator("curl", "-sSI", "--cacert", str(road.lab.ca.roots), f"https://{NAME}/")
    assert "strict-transport-security: max-age=600" in got.stdout.lower()


def test_a_login_shell_that_runs_no_command_costs_its_own_host_alone(road: Road) -> None:
    broken = road.replicas[1]
    road.edit("hsts_seconds = 600\n", "")
    with bashrc_begins_with("echo back at nine; exit 0", broken):
        dry = road.deploy("--dry-run")
        ended = road.deploy()
        checked = road.certsync("check", "--online")
    assert (dry.status, ended.status, checked.status) == (1, 1, 3)
    why = "its login shell does not run commands: back at nine"
    assert f"error: {broken.name}: {why}" in dry.stderr
    assert f"error: {broken.name}: {why}" in ended.stderr
    assert "\nhint: look at ~/.bashrc (/root/.bashrc)" in ended.stderr
    assert f"{broken.name}: {why}" in checked.stdout
    # The others were deployed to.
    site = f"etc/nginx/sites-available/certsync-{NAME}.conf"
    had = {each.name for each in road.backends if "max-age" in (each.root / site).read_text()}
    assert had == {broken.name}
    assert road.deploy().status == 0
    assert "max-age" not in (broken.root / site).read_text()


def test_what_was_stopped_is_started_by_the_next_deploy(road: Road) -> None:
    replica, balancer = road.replicas[0], road.lab.balancer
    replica.sh("systemctl disable -q --now nginx")
    balancer.sh("systemctl stop haproxy")
    assert road.page() == ""
    dry = road.deploy("--dry-run")
    assert dry.status == 0, dry.everything
    for unit, machine in (("nginx", replica), ("haproxy", balancer)):
        assert f"    {unit}.service ({machine.name}):\n" in dry.stdout
    ended = road.as_announced("deploy")
    assert ended.status == 0, ended.everything
    assert "\n2 changes\n" in ended.stderr
    assert (
        replica.sh("systemctl is-enabled nginx; systemctl is-active nginx") == "enabled\nactive\n"
    )
    assert "BEGIN CERTIFICATE" in road.shown_by(balancer.address)
    assert "\n0 changes\n" in road.deploy().stderr


def test_what_cannot_be_started_is_told_with_what_it_said_last(road: Road) -> None:
    replica, balancer = road.replicas[0], road.lab.balancer
    for machine, unit in ((replica, "nginx"), (balancer, "haproxy")):
        machine.sh(
            f"mkdir -p /run/systemd/system/{unit}.service.d && systemctl stop {unit} "
            "&& printf '[Service]\\nExecStartPre=/bin/sh -c \"echo no luck today; exit 1\"\\n' "
            f"> /run/systemd/system/{unit}.service.d/unlucky.conf && systemctl daemon-reload"
        )
    ended = road.deploy()
    for machine, unit in ((replica, "nginx"), (balancer, "haproxy")):
        machine.sh(
            f"rm /run/systemd/system/{unit}.service.d/unlucky.conf && systemctl daemon-reload"
        )
    assert ended.status == 1
    told = ended.stderr.split("error: ")[1]
    assert re.search(f"{replica.name}: nginx: nginx cannot be started: .*no luck today", told)
    assert re.search("balancer: haproxy.cfg: haproxy cannot be started: .*no luck today", told)
    # Nobody is, as long as HAProxy is not there.
    assert "in service" not in ended.stderr
    ended = road.deploy()
    assert ended.status == 0, ended.everything


def test_an_unmanaged_site_takes_the_snippets_into_its_own_servers(road: Road) -> None:
    site = (
        "server { listen 80; listen 443 ssl; server_name " + NAME + "; "
        f"include snippets/ssl-{NAME}.conf; include snippets/certsync-challenge.conf; "
        "location / { return 200 'theirs\\n'; } }\n"
    )
    for machine in road.lab.backends:
        enabled = machine.root / "etc/nginx/sites-enabled"
        machine.sh(f"rm /etc/nginx/sites-enabled/certsync-{NAME}.conf")
        (enabled / "theirs.conf").write_text(site)
        machine.sh("nginx -t -q && systemctl reload nginx")
    road.edit('kind = "proxy"\nupstream = "127.0.0.1:3000"\ntest_page = true',
              'kind = "unmanaged"')  # fmt: skip
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    got = road.operator("curl", "-sS", "--cacert", str(road.lab.ca.roots), f"https://{NAME}/")
    assert got.stdout == "theirs\n"

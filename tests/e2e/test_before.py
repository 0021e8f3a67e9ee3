"""What a deploy looks at before it changes or orders anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, NAME, Road, state

PEBBLE = "pebble.letsencrypt.org"
"""The domain in CAA records that the lab's CA names in its directory."""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet that nothing has been deployed to."""
    with bring_up(Lab("before")) as lab:
        # The CA takes some seconds to look, so that a run can be cut off while it does.
        slow = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "6"}
        lab.ca.restart({"PEBBLE_AUTHZREUSE": "0", **slow})
        yield Road(lab, tmp_path_factory.mktemp("before"))


def test_a_dry_run_on_an_empty_fleet_changes_nothing(road: Road) -> None:
    before = state(road.lab)
    ended = road.deploy("--dry-run")
    assert ended.status == 0, ended.everything
    assert "    Order the certificate, depending on whether one is due" in ended.stdout
    assert "    Passthrough, depending on what is proven by then: balancer" in ended.stdout
    assert state(road.lab) == before
    assert road.lab.ca.orders() == 0


def test_check_online_finds_every_host_ready(road: Road) -> None:
    ended = road.certsync("check", "--online")
    assert ended.status == 0, ended.everything
    assert "every host is ready" in ended.stdout


def test_caa_records_that_forbid_an_order_are_told_before_one_is_made(road: Road) -> None:
    parent, account = NAME.partition(".")[2], "https://ca.example/acct/1"
    try:
        for values, text in (
            (";", "permit no CA"),
            ("other.example", f"permit only other.example, not {PEBBLE}"),
        ):
            road.lab.ca.forbid_all_but(parent, values)
            ended = road.certsync("check", "--online")
            assert ended.status == 3
            hint = f'hint: add: {parent}. CAA 0 issue "{PEBBLE}"'
            assert f"the CAA records at {parent} {text}\n  {hint}\n" in ended.stdout
        road.lab.ca.forbid_all_but(parent)
        road.lab.ca.forbid_all_but(parent, f"{PEBBLE}; accounturi={account}")
        ended = road.certsync("check", "--online")
        assert ended.status == 0, ended.everything
        assert f"permit {PEBBLE} only for the account {account}\n" in ended.stdout
        ended = road.deploy("--dry-run")
        assert ended.status == 0, ended.everything
        assert f"warning: {NAME}, www.{NAME}: the CAA records at {parent} permit" in ended.stderr
    finally:
        road.lab.ca.forbid_all_but(parent)
    assert road.lab.ca.orders() == 0


def test_a_fleet_that_has_not_been_deployed_cannot_be_changed(road: Road) -> None:
    text, before = road.fleet_file.read_text(), state(road.lab)
    for verb, *words in (
        ("add-backend", "backend-04", "203.0.113.14"),
        ("remove-backend", "backend-03"),
        ("promote", "backend-02"),
    ):
        ended = road.certsync(verb, *words)
        assert ended.status == 1
        assert "error: backend-01: this fleet has not been deployed" in ended.stderr
        assert "hint: deploy it first: certsync deploy FLEET\n" in ended.stderr
    assert road.fleet_file.read_text() == text
    assert state(road.lab) == before


def test_servers_of_somebody_else_are_refused_by_name_before_any_change(road: Road) -> None:
    second, third = road.replicas
    balancer = road.lab.balancer
    second.sh("apt-get install -y -q apache2 && systemctl start apache2")
    second.sh("systemd-run -q --unit=panel python3 -m http.server 8443 && sleep 2")
    third.sh("apt-get install -y -q nginx && echo 'server { listen 8080; }' > "
             "/etc/nginx/sites-enabled/theirs")  # fmt: skip
    # Somebody's own build, under the same name.
    third.sh("systemctl stop nginx && cp /usr/sbin/nginx /opt/nginx && "
             "systemd-run -q --unit=shop /opt/nginx -g 'daemon off;' && sleep 2")  # fmt: skip
    balancer.sh("apt-get install -y -q haproxy && echo '# mine' >> /etc/haproxy/haproxy.cfg")
    before = state(road.lab)
    ended = road.deploy()
    assert ended.status == 1
    assert "error: nothing was changed on any host:" in ended.stderr
    assert "backend-02: port 80 is in use by apache2 (process " in ended.stderr
    assert "backend-02: port 8443 is in use by python3 (process " in ended.stderr
    assert "set another proxy_port under [balancing]" in ended.stderr
    assert (
        "backend-03: /etc/nginx/sites-enabled/theirs is an nginx site that certsync did not write"
        in ended.stderr
    )
    assert "which is not the distribution's: /opt/nginx in shop.service" in ended.stderr
    assert (
        "balancer: /etc/haproxy/haproxy.cfg is neither the distribution's nor certsync's"
        in ended.stderr
    )
    assert state(road.lab) == before
    checked = road.certsync("check", "--online")
    assert checked.status == 3
    assert "backend-02: port 80 is in use by apache2" in checked.stdout
    assert "backend-02: port 8443 is in use by python3" in checked.stdout
    third.sh("systemctl stop shop && systemctl start nginx")


def test_names_that_do_not_lead_to_the_balancer_stop_before_the_order(road: Road) -> None:
    second = road.replicas[0]
    second.sh("systemctl disable --now apache2 && systemctl stop panel")
    road.lab.ca.set_address(NAME, ipv4=[second.address], ipv6=[])
    ended = road.deploy("--adopt-nginx", "--adopt-haproxy")
    assert ended.status == 75, ended.everything
    assert "resolves to 203.0.113.12, which is backend-02: it must point to the balancer" in (
        ended.stderr
    )
    for record in ("A 203.0.113.10", "AAAA 2001:db8:113::10"):
        assert f"{NAME}. {record}" in ended.stderr
    assert road.lab.ca.orders() == 0
    # Port 80 is finished: the challenge location answers through the balancer.
    url = f"http://{road.lab.balancer.address}/.well-known/acme-challenge/x"
    asked = road.operator("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert asked.stdout == "404"


def test_what_was_taken_over_is_kept_with_its_date(road: Road) -> None:
    kept = road.replicas[1].sh("find /var/backups/certsync -name theirs")
    assert kept.strip().endswith("/etc/nginx/sites-enabled/theirs")
    kept = road.lab.balancer.sh("grep -rl '^# mine' /var/backups/certsync")
    assert kept.strip().endswith("/etc/haproxy/haproxy.cfg")


def test_a_replica_that_loses_challenges_stops_the_first_order_before_it_is_made(
    road: Road,
) -> None:
    road.lab.ca.set_address(NAME, ipv4=[road.lab.balancer.address],
                            ipv6=[road.lab.balancer.address6])  # fmt: skip
    broken = road.replicas[0]
    broken.sh(
        "sed -i 's,proxy_pass .*,return 200 lost;,' /etc/nginx/snippets/certsync-challenge.conf "
        "&& systemctl reload nginx && sleep 1"
    )
    status, output = road.issuer.attempt("certsync issue")
    assert status == 1
    assert (
        "error: nothing was ordered, because a challenge would not reach the issuer: backend-02 "
    ) in output
    assert "answers something else ('lost')" in output
    assert "hint: port 80 of each backend must forward /.well-known/acme-challenge/" in output
    assert road.lab.ca.orders() == 0
    repair = "sed -i 's,return 200 lost;,proxy_pass http://203.0.113.11:80;,'"
    broken.sh(
        f"{repair} /etc/nginx/snippets/certsync-challenge.conf && systemctl reload nginx && sleep 1"
    )


def test_a_balancer_that_refuses_connections_stops_the_first_order_before_it_is_made(
    road: Road,
) -> None:
    balancer = road.lab.balancer
    balancer.sh("systemctl stop haproxy")
    try:
        status, output = road.issuer.attempt("certsync issue")
    finally:
        balancer.sh("systemctl start haproxy && sleep 3")
    assert status == 1
    assert "error: nothing was ordered, because a challenge would not reach the issuer: " in output
    for address in (balancer.address, balancer.address6):
        assert f"{address}: not reached: it refuses connections on port 80" in output
    assert not (road.issuer.root / f"etc/certsync/pending/{NAME}/order.json").exists()
    assert road.lab.ca.orders() == 0


def test_a_look_up_that_fails_stops_the_first_order_and_asks_for_no_records(road: Road) -> None:
    issuer, resolver = road.issuer, "/etc/resolv.conf"
    issuer.sh(f"cp {resolver} /run/resolver && echo nameserver 127.0.0.1 > {resolver}")
    try:
        status, output = issuer.attempt("certsync issue")
    finally:
        issuer.sh(f"cat /run/resolver > {resolver}")
    assert status == 75
    assert f"error: nothing was ordered: the DNS lookup of {NAME} failed: " in output
    assert "set these records" not in output
    assert road.lab.ca.orders() == 0


def test_a_killed_run_loses_no_order_and_one_that_is_ended_leaves_no_challenge_file(
    road: Road,
) -> None:
    webroot = "/var/lib/certsync/webroot/.well-known/acme-challenge"
    begin = (
        "certsync issue > /dev/null 2>&1 & issue=$!; "
        f'until [ -s /etc/certsync/pending/{NAME}/order.json ] && [ -n "$(ls {webroot})" ]; '
        "do kill -0 $issue || exit 1; sleep 0.05; done; "
    )
    road.issuer.sh(f"{begin} kill -9 $issue; wait $issue || :", timeout=60)
    assert road.lab.ca.orders() == 1
    road.issuer.sh("sleep 7")  # the CA has looked, and has found the files that were left
    road.issuer.sh("certsync issue", timeout=60)
    assert road.lab.ca.orders() == 1
    assert road.issuer.sh(f"ls {webroot}") == ""
    # Ended in order, a run takes its files away, and the CA, whose look has got lost on the way,
    # then calls the order off.
    road.issuer.sh(f"rm -r {LINEAGE}/0001")
    told = road.lab.ca.log()
    with out_of_sight(road.lab.ca.machine, road.lab.balancer):
        issue = road.issuer.sh("certsync issue > /dev/null 2>&1 & echo $!").strip()
        until(lambda: "POST /chalZ/" in road.lab.ca.log().removeprefix(told))
        ended = f"kill {issue}; while kill -0 {issue} 2> /dev/null; do sleep 0.05; done"
        assert road.issuer.sh(f"{ended}; ls {webroot}", timeout=60) == ""
        assert road.lab.ca.orders() == 2
        until(lambda: "set INVALID" in road.lab.ca.log().removeprefix(told))


@contextmanager
def out_of_sight(machine: Machine, other: Machine) -> Iterator[None]:
    """Have what a machine sends to another one get lost inside the block, without an answer."""
    targets = (other.address, other.address6)
    for target in targets:
        machine.sh(f"ip neigh replace {target} lladdr 02:00:00:00:00:99 dev host0 nud permanent")
    yield
    for target in targets:
        machine.sh(f"ip neigh del {target} dev host0")


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_next_deploy_places_another_order_for_one_that_failed_whatever_its_issuer_sees(
    road: Road,
) -> None:
    """The issuer has no route over IPv6, and its /etc/hosts names it as cloud-init does."""
    issuer, network = road.issuer, "2001:db8:113::/64 dev host0"
    issuer.sh(f"cp /etc/hosts /run/hosts && echo 127.0.1.1 {NAME} >> /etc/hosts")
    issuer.sh(f"ip -6 route del {network}")
    try:
        ended = road.deploy()
    finally:
        issuer.sh(f"cat /run/hosts > /etc/hosts; ip -6 route add {network}")
    assert ended.status == 0, ended.everything
    issuer.sh(f"ip -6 route get {road.lab.balancer.address6}")
    assert road.lab.ca.orders() == 3
    assert road.current(road.issuer) == "0001"
    assert road.pages() == {machine.name for machine in road.lab.backends}


def test_a_fleet_file_that_lacks_a_machine_is_refused(road: Road) -> None:
    whole = road.fleet_file.read_text()
    road.edit('[backends.backend-03]\naddress = "203.0.113.13"\n', "")
    ended = road.deploy()
    road.fleet_file.write_text(whole)
    assert ended.status == 1
    assert "backend-01: the issuer knows backend-03, but the fleet file does not" in ended.stderr


def test_a_fleet_file_that_names_another_issuer_is_refused(road: Road) -> None:
    road.edit('issuer = "backend-01"', 'issuer = "backend-02"')
    ended = road.deploy()
    road.edit('issuer = "backend-02"', 'issuer = "backend-01"')
    assert ended.status == 1
    assert "backend-01: it is this fleet's issuer, but the fleet file names backend-02" in (
        ended.stderr
    )


def test_status_says_when_another_fleet_file_was_deployed(road: Road) -> None:
    road.edit("passthrough = true", "passthrough = true  # a comment of somebody else's")
    said = road.certsync("status").stdout
    road.edit("  # a comment of somebody else's", "")
    assert "the fleet was deployed from another version of lab.toml, on " in said
    assert "another version" not in road.certsync("status").stdout


def test_passthrough_can_be_switched_off_and_on(road: Road) -> None:
    assert road.operator("certsync", "passthrough", "off", str(road.fleet_file)).status == 0
    assert road.deploy().status == 0
    assert "frontend tls" not in road.haproxy_cfg()
    assert road.page() == ""
    assert road.operator("certsync", "passthrough", "on", str(road.fleet_file)).status == 0
    assert road.deploy().status == 0
    assert road.pages() == {machine.name for machine in road.lab.backends}

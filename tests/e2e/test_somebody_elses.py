"""A balancer that is not ours: it is set by hand as `certsync rules` says, and the road is walked.

Here a person plays the provider: HAProxy on the lab's balancer, which certsync never touches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Ended, Road

HEAD = """\
global
    user haproxy
    group haproxy
    daemon
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend http
    bind :::80 v4v6
    mode http
    option forwardfor
    default_backend http
backend http
    mode http
{http}
"""
TLS = """\
frontend tls
    bind :::443 v4v6
    mode tcp
    default_backend tls
backend tls
    mode tcp
{tls}
"""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of two backends behind somebody else's balancer, before its first deploy."""
    with bring_up(Lab("elses", backends=3)) as lab:
        road = Road(lab, tmp_path_factory.mktemp("elses"))
        road.edit('[backends.backend-03]\naddress = "203.0.113.13"\n', "")
        road.edit(
            f'[balancers.balancer]\naddress = "{lab.balancer.address}"\n',
            f'[balancer]\nprovider = "none"\nnetworks = ["{lab.balancer.address}"]\n',
        )
        lab.balancer.sh("apt-get install -y -qq haproxy")
        yield road


def told(road: Road) -> dict[str, Any]:
    """Return what `certsync rules` says for programs."""
    shown: dict[str, Any] = json.loads(road.certsync("rules", "--json").stdout)
    return shown


def set_by_hand(road: Road, *, tls: bool) -> None:
    """Do at the balancer what is printed for Linode: the ports, the protocol, the check."""
    shown = told(road)
    [linode] = [each for each in shown["providers"] if each["provider"] == "Linode"]
    plain, secure = linode["rules"]
    ready = shown["rule"]["ready"] if tls else [node["name"] for node in shown["nodes"]]
    nodes = [node for node in shown["nodes"] if node["name"] in ready]
    proxy = " send-proxy-v2 no-check-send-proxy" * (secure["proxy"] == "Proxy Protocol: v2")

    def servers(rule: dict[str, str], more: str) -> str:
        port = rule["backend"].removeprefix("port ")
        return "\n".join(
            f"    server {node['name']} {node['address']}:{port} check{more}" for node in nodes
        )

    text = HEAD.format(http=servers(plain, ""))
    if tls:
        text += TLS.format(tls=servers(secure, proxy))
    road.lab.balancer.sh("cat > /etc/haproxy/haproxy.cfg", input=text)
    road.lab.balancer.sh("systemctl reload-or-restart haproxy")


def test_before_the_deploy_the_rules_are_told_and_none_may_be_on(road: Road) -> None:
    shown = road.certsync("rules")
    assert shown.status == 3
    assert "HTTPS 443, certificate: Passthrough -> HTTPS 443" in shown.stdout
    assert "TCP 443 -> port 8443\n        PROXY protocol: Proxy Protocol: v2" in shown.stdout
    assert (
        "ProxyProtocolPolicyType with ProxyProtocol true, set for backend port 8443" in shown.stdout
    )
    assert "must stay off for now: backend-01: this fleet has not been deployed" in shown.stdout
    offline = road.certsync("rules", "--offline")
    assert offline.status == 3
    assert "must stay off for now: the issuer was not asked" in offline.stdout


def test_the_whole_road_ends_by_saying_that_the_rule_may_be_on(road: Road) -> None:
    set_by_hand(road, tls=False)
    dry = road.deploy("--dry-run")
    assert dry.status == 0, dry.everything
    before = road.haproxy_cfg()
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "may be on now, for backend-01, backend-02\n" in ended.stdout
    assert "nothing answers on port 443" in ended.stdout
    assert road.haproxy_cfg() == before
    assert road.certsync("rules").status == 0


def test_with_the_rule_on_the_page_is_served_and_status_is_content(road: Road) -> None:
    set_by_hand(road, tls=True)
    assert road.pages(8) == {"backend-01", "backend-02"}
    shown = road.certsync("status")
    assert shown.status == 0, shown.everything
    assert "nothing answers" not in shown.stdout
    assert {row["pool"] for row in road.status()["rows"]} == {"-"}


def test_a_balancer_that_the_backends_do_not_know_is_told_of_and_does_not_pass_for_well(
    road: Road,
) -> None:
    networks = f'networks = ["{road.lab.balancer.address}"]'
    road.edit(networks, 'networks = ["203.0.113.98"]')
    ended = road.deploy()
    assert ended.status != 0, ended.everything
    assert road.page() == ""
    shown = road.certsync("status")
    assert shown.status == 3
    assert "TLS works, but no request is answered: set balancer.networks" in shown.everything
    road.edit('networks = ["203.0.113.98"]', networks)
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert road.pages(8) == {"backend-01", "backend-02"}


def asked(road: Road, url: str) -> Ended:
    return road.operator(
        "curl", "-sS", "--fail", "-o", "/dev/null", "-H", "X-Forwarded-For: 192.0.2.9",
        "--cacert", str(road.lab.ca.roots), url,
    )  # fmt: skip


def test_the_backends_hear_who_the_client_is_from_that_balancer_alone(road: Road) -> None:
    for scheme in ("http", "https"):
        path = f"/lb.html?{scheme}"
        assert asked(road, f"{scheme}://{NAME}{path}").status == 0
        logged = "".join(
            machine.sh(f"grep -F '{path} ' /var/log/nginx/access.log || :")
            for machine in road.backends
        )
        assert logged.split()[0] in {"203.0.113.1", "2001:db8:113::1"}, logged


def test_the_hourly_run_finds_all_well(road: Road) -> None:
    ended = road.renew()
    assert ended.status == 0, ended.everything


def test_a_backend_that_joins_is_told_to_be_ready_and_one_that_leaves_to_be_taken_out(
    road: Road,
) -> None:
    third = road.lab.backends[2]
    ended = road.certsync("add-backend", third.name, third.address)
    assert ended.status == 0, ended.everything
    assert "may be on now, for backend-01, backend-02, backend-03\n" in ended.stdout
    set_by_hand(road, tls=True)
    assert road.pages(9) == {"backend-01", "backend-02", "backend-03"}
    left = road.certsync("remove-backend", third.name, "--drain-seconds", "1")
    assert left.status == 0, left.everything
    assert "remove backend-03 from your provider's pools now" in left.stderr


def test_a_fleet_with_balancers_of_ours_has_nothing_to_be_set_by_hand(road: Road) -> None:
    theirs = road.fleet_file.read_text()
    start = theirs.index("[balancer]")
    road.fleet_file.write_text(
        theirs[:start] + '[balancers.balancer]\naddress = "203.0.113.10"\n'
        + theirs[theirs.index("[backends.backend-01]") :]
    )  # fmt: skip
    shown = road.certsync("rules")
    road.fleet_file.write_text(theirs)
    assert shown.status == 1
    assert "error: certsync sets this fleet's rules itself, on balancer\n" in shown.stderr

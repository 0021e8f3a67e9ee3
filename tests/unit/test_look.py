"""Whose host is it? The exact words that people are refused with."""

from __future__ import annotations

import pytest

from certsync.look import Adopt, Listener, Surroundings, describe, objections, parse
from certsync.options import Balancer, Provider, Site, SiteKind
from tests.unit.fake_fleet import fleet

FLEET = fleet()
ISSUER, REPLICA, BALANCER = FLEET.backends[0], FLEET.backends[1], FLEET.balancers[0]
NONE = Adopt()


def test_what_the_script_prints_is_read() -> None:
    seen = parse(
        [
            "os debian 13", "arch x86_64", "time 1795000000", "python 3.13", "disk 812",
            "listener 80 nginx 12", "listener 80 nginx 12", "listener 443 ? 0",
            "haproxy distribution", "keepalived foreign",
            "nginx ours /etc/nginx/sites-enabled/a b.conf",
            "issuer", "known backend-01", "known balancer balancer", "ufw active", "limit OpenSSH",
        ]
    )  # fmt: skip
    assert seen == Surroundings(
        os=("debian", "13"),
        arch="x86_64",
        time=1795000000,
        disk_mb=812,
        python=(3, 13),
        listeners=(Listener(80, "nginx", 12), Listener(443, "?", 0)),
        haproxy="distribution",
        keepalived="foreign",
        nginx_sites=(("ours", "/etc/nginx/sites-enabled/a b.conf"),),
        issuer=True,
        known_balancers=("balancer",),
        known_machines=("backend-01", "balancer"),
        ufw="active",
        limited=("OpenSSH",),
    )


def test_nothing_printed_is_an_empty_host() -> None:
    assert parse([]) == Surroundings()


def test_an_empty_host_and_our_own_are_fine() -> None:
    ours = Surroundings(
        listeners=(Listener(80, "nginx", 1), Listener(443, "nginx", 1)),
        nginx_sites=(("ours", "/a"), ("distribution", "/b")),
    )
    assert objections(FLEET, REPLICA, Surroundings(), NONE) == []
    assert objections(FLEET, REPLICA, ours, NONE) == []
    haproxy = Surroundings(listeners=(Listener(443, "haproxy", 1),), haproxy="distribution")
    assert objections(FLEET, BALANCER, haproxy, NONE) == []


def told(machine: object, seen: Surroundings, adopt: Adopt = NONE, **changes: object) -> str:
    return describe(objections(fleet(**changes), machine, seen, adopt))  # type: ignore[arg-type]  # a shorthand


def test_one_that_was_the_issuer_may_be_deployed_to_by_a_promotion_alone() -> None:
    seen = Surroundings(issuer=True)
    assert objections(FLEET, REPLICA, seen, NONE, promoting=True) == []
    assert len(objections(FLEET, REPLICA, seen, NONE)) == 1


def test_a_port_held_by_another_program_is_refused() -> None:
    listeners = (Listener(80, "apache2", 7), Listener(443, "apache2", 7))
    assert told(REPLICA, Surroundings(listeners=listeners)) == (
        "backend-02: port 80 and 443 is held by apache2 (process 7)\n"
        "  hint: stop and disable it, or take backend-02 out of the fleet file"
    )


def test_a_port_held_by_a_program_the_kernel_does_not_name_is_refused() -> None:
    text = told(BALANCER, Surroundings(listeners=(Listener(443, "?", 0),)))
    assert text.startswith("balancer: port 443 is held by an unknown program\n")


SITES = Surroundings(nginx_sites=(("foreign", "/etc/nginx/sites-enabled/shop"),))


def test_another_nginx_site_is_refused() -> None:
    assert told(REPLICA, SITES) == (
        "backend-02: /etc/nginx/sites-enabled/shop is an nginx site that certsync did not write\n"
        '  hint: keep it with site.kind = "unmanaged", or have it put aside with --adopt-nginx'
    )


def test_another_nginx_site_is_accepted_where_sites_are_not_ours_or_may_be_taken_over() -> None:
    assert told(REPLICA, SITES, Adopt(nginx=True)) == ""
    assert told(REPLICA, SITES, site=Site(kind=SiteKind.UNMANAGED)) == ""


def test_another_haproxy_cfg_is_refused_unless_adopted() -> None:
    seen = Surroundings(haproxy="foreign")
    assert told(BALANCER, seen) == (
        "balancer: /etc/haproxy/haproxy.cfg is neither the distribution's nor certsync's\n"
        "  hint: have it put aside, a dated copy kept, with --adopt-haproxy"
    )
    assert told(BALANCER, seen, Adopt(haproxy=True)) == ""


def test_a_second_issuer_is_refused() -> None:
    assert told(REPLICA, Surroundings(issuer=True)) == (
        "backend-02: it is this fleet's issuer, and the fleet file names backend-01\n"
        "  hint: pull the newer fleet file, or have the other one take over: "
        "certsync promote FLEET backend-01"
    )


def test_a_fleet_file_older_than_the_issuers_is_refused() -> None:
    seen = Surroundings(issuer=True, known_machines=("backend-01", "backend-09"))
    assert told(ISSUER, seen) == (
        "backend-01: the issuer knows backend-09, and the fleet file does not\n"
        "  hint: pull the newer fleet file, or take it out with `certsync remove-backend`"
    )


@pytest.mark.parametrize(("python", "text"), [((3, 9), "the issuer has Python 3.9"), ((3, 10), "")])
def test_an_issuer_with_an_old_python_is_refused(python: tuple[int, ...], text: str) -> None:
    assert text in told(ISSUER, Surroundings(python=python))
    assert told(REPLICA, Surroundings(python=python)) == ""


SHARED = Balancer(virtual_addresses=("203.0.113.100",))


def test_somebody_elses_keepalived_is_refused_where_addresses_are_to_be_shared() -> None:
    seen = Surroundings(keepalived="foreign")
    assert told(BALANCER, seen, balancer=SHARED) == (
        "balancer: /etc/keepalived/keepalived.conf is not certsync's\n"
        "  hint: move it away, or leave it to it and take balancer.virtual_addresses out of the "
        "fleet file"
    )
    assert told(BALANCER, seen) == ""
    assert told(BALANCER, Surroundings(keepalived="ours"), balancer=SHARED) == ""


def test_a_balancer_that_the_fleet_file_lacks_leaves_by_the_issuers_list() -> None:
    seen = Surroundings(issuer=True, known_machines=("old",), known_balancers=("old",))
    assert told(ISSUER, seen) == (
        "backend-01: the issuer knows old, and the fleet file does not\n"
        "  hint: pull the newer fleet file, or once it is switched off for good, take its line out "
        "of /etc/certsync/machines there"
    )


def test_a_fleet_without_balancers_of_ours_has_had_some() -> None:
    seen = Surroundings(issuer=True, known_machines=("old", "gone"), known_balancers=("old",))
    words = told(ISSUER, seen, balancers=(), balancer=Balancer(Provider.NONE))
    assert words.startswith("backend-01: the issuer knows gone, and")

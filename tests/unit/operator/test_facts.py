"""Whose host is it? The exact words that people are refused with."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model.options import (
    Balancer,
    Balancing,
    Provider,
    Site,
    SiteKind,
    Stickiness,
)
from certsync.operator.balancer.gate import Gate
from certsync.operator.hosts import survey
from certsync.operator.hosts.facts import (
    Adopt,
    HostFacts,
    Listener,
    parse,
)
from certsync.operator.hosts.objections import (
    describe,
    foreign_sites,
    is_copy_of_issuer,
    objections,
    ports,
)
from certsync.operator.rendering import templates
from tests.unit.fake_fleet import NAME, fleet, lineage

FLEET = fleet()
ISSUER, REPLICA, BALANCER = FLEET.backends[0], FLEET.backends[1], FLEET.balancers[0]
NONE = Adopt()


def test_what_the_script_prints_is_read() -> None:
    seen = parse(
        [
            "os debian 13", "arch x86_64", "time 1795000000", "python 3.13", "disk 812",
            "listener 80 12 nginx", "listener 80 12 nginx", "listener 443 0 ?",
            "listener 3000 7 node: server",
            "haproxy distribution", "keepalived foreign",
            "nginx ours /etc/nginx/sites-enabled/a b.conf",
            "issuer", "known backend-01", "known balancer balancer", "ufw active", "limit OpenSSH",
        ]
    )  # fmt: skip
    assert seen == HostFacts(
        os=("debian", "13"),
        arch="x86_64",
        time=1795000000,
        disk_mb=812,
        python=(3, 13),
        listeners=(
            Listener(80, "nginx", 12),
            Listener(443, "?", 0),
            Listener(3000, "node: server", 7),
        ),
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
    assert parse([]) == HostFacts()


def test_an_empty_host_and_our_own_are_fine() -> None:
    ours = HostFacts(
        listeners=tuple(
            Listener(port, program, 1)
            for port, program in (
                (80, "nginx"),
                (443, "nginx"),
                (8443, "nginx"),
                (22, "sshd"),
                (8404, "node"),
            )
        ),
        nginx_sites=(("ours", "/a"), ("distribution", "/b")),
    )
    assert objections(FLEET, REPLICA, HostFacts(), NONE) == []
    assert objections(FLEET, REPLICA, ours, NONE) == []
    programs = ((443, "haproxy"), (8404, "haproxy"), (10000, "haproxy"), (8443, "java"))
    haproxy = HostFacts(
        listeners=tuple(Listener(port, program, 1) for port, program in programs),
        haproxy="distribution",
    )
    assert objections(FLEET, BALANCER, haproxy, NONE) == []


def told(machine: object, seen: HostFacts, adopt: Adopt = NONE, **changes: object) -> str:
    return describe(objections(fleet(**changes), machine, seen, adopt))  # type: ignore[arg-type]  # a shorthand


def test_one_that_was_the_issuer_may_be_deployed_to_by_a_promotion_alone() -> None:
    seen = HostFacts(issuer=True)
    assert objections(FLEET, REPLICA, seen, NONE, promoting=True) == []
    assert len(objections(FLEET, REPLICA, seen, NONE)) == 1


def test_a_port_held_by_another_program_is_refused() -> None:
    listeners = (Listener(80, "apache2", 7), Listener(443, "apache2", 7))
    assert told(REPLICA, HostFacts(listeners=listeners)) == (
        "backend-02: port 80 and 443 is in use by apache2 (process 7)\n"
        "  hint: stop and disable it, or remove backend-02 from the fleet file"
    )


def test_a_port_held_by_a_program_the_kernel_does_not_name_is_refused() -> None:
    text = told(BALANCER, HostFacts(listeners=(Listener(443, "?", 0),)))
    assert text.startswith("balancer: port 443 is in use by an unknown program\n")


def test_another_program_on_the_port_for_the_proxy_protocol_is_refused() -> None:
    seen = HostFacts(listeners=(Listener(8443, "java", 7), Listener(443, "java", 7)))
    assert told(REPLICA, seen) == (
        "backend-02: port 8443 is in use by java (process 7)\n"
        "  hint: stop and disable it, or set another proxy_port under [balancing]\n"
        "backend-02: port 443 is in use by java (process 7)\n"
        "  hint: stop and disable it, or remove backend-02 from the fleet file"
    )
    text = told(REPLICA, seen, balancing=Balancing(proxy_port=9443))
    assert text.startswith("backend-02: port 443 is in use by java (process 7)\n")


def test_another_program_on_the_port_of_haproxys_statistics_is_refused() -> None:
    assert told(BALANCER, HostFacts(listeners=(Listener(8404, "node", 7),))) == (
        "balancer: port 8404 is in use by node (process 7)\n"
        "  hint: move it to another port, or stop and disable it: HAProxy needs this one for its "
        "statistics, on 127.0.0.1"
    )


@pytest.mark.parametrize(
    "balancing", [Balancing(stickiness=Stickiness.SOURCE), Balancing(connections_per_client=60)]
)
def test_another_program_on_the_port_of_haproxys_peers_is_refused_where_it_has_them(
    balancing: Balancing,
) -> None:
    seen = HostFacts(listeners=(Listener(10000, "miniserv.pl", 7),))
    assert told(BALANCER, seen) == ""
    assert told(BALANCER, seen, balancing=balancing) == (
        "balancer: port 10000 is in use by miniserv.pl (process 7)\n"
        "  hint: move it to another port, or stop and disable it: HAProxy needs this one for "
        "stickiness and connections_per_client"
    )


NGINX = ["listener 80 7 nginx", "listener 443 7 nginx"]


@pytest.mark.parametrize(
    ("process", "what"),
    [
        ("nginx.service /usr/sbin/nginx", ""),
        ("nginx.service /usr/sbin/nginx (deleted)", ""),
        ("- ", ""),
        (
            "gitlab-runsvdir.service /opt/gitlab/embedded/sbin/nginx",
            "/opt/gitlab/embedded/sbin/nginx in gitlab-runsvdir.service",
        ),
        ("docker-4f1c.scope /usr/sbin/nginx", "/usr/sbin/nginx in docker-4f1c.scope"),
        ("session-3.scope /usr/sbin/nginx", "/usr/sbin/nginx in session-3.scope"),
        ("- /usr/local/sbin/nginx", "/usr/local/sbin/nginx in no unit"),
    ],
)
def test_an_nginx_that_is_not_the_distributions_is_another_program(process: str, what: str) -> None:
    text = told(REPLICA, parse([*NGINX, f"process 7 {process}"]))
    assert text == (
        f"backend-02: port 80 and 443 is in use by nginx (process 7), which is not the "
        f"distribution's: {what}, not /usr/sbin/nginx in nginx.service\n"
        "  hint: stop and disable it, or remove backend-02 from the fleet file"
        if what
        else ""
    )


def test_so_is_a_haproxy_in_a_container() -> None:
    lines = ["listener 443 9 haproxy", "process 9 docker-1.scope /usr/local/sbin/haproxy"]
    assert "which is not the distribution's" in told(BALANCER, parse(lines))


def test_an_nginx_of_others_is_refused_and_never_to_be_adopted() -> None:
    lines = ["nginx-of-others /usr/sbin/nginx 1.28.0-1~bookworm", "nginx-without sites-enabled",
             "nginx foreign /etc/nginx/conf.d/default.conf"]  # fmt: skip
    for adopt in (NONE, Adopt(nginx=True)):
        text = told(REPLICA, parse(lines), adopt)
        assert text.startswith(
            "backend-02: its nginx is not the distribution's: /usr/sbin/nginx 1.28.0-1~bookworm\n"
        )
        assert "adopt" not in text
        assert text.count("hint") == 1
    assert told(BALANCER, parse(lines)) == ""


def test_an_nginx_that_would_not_see_our_files_is_refused() -> None:
    seen = parse(["nginx-without sites-enabled", "nginx-without conf.d"])
    assert told(REPLICA, seen) == (
        "backend-02: /etc/nginx/nginx.conf does not include sites-enabled and conf.d, so nginx "
        "would not see our files\n"
        "  hint: add to its http block: `include /etc/nginx/sites-enabled/*;` "
        "`include /etc/nginx/conf.d/*.conf;`"
    )
    assert told(REPLICA, seen, site=Site(kind=SiteKind.UNMANAGED)) == ""


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("user certsync:x:1001:1001:Anna,,,:/home/certsync:/bin/bash", True),
        ("user certsync:x:999:999::/var/lib/certsync-receive:/bin/sh", False),
        ("user certsync:x:1001:1001::/var/lib/certsync-receive:/bin/sh", False),
        ("user anna:x:1001:1001::/home/anna:/bin/bash", False),
        ("user certsync:x:?:1001::/home/certsync:/bin/bash", False),
    ],
)
def test_a_persons_account_is_not_made_the_receiving_user(line: str, refused: bool) -> None:
    text = told(REPLICA, parse([line]))
    assert ("it has an account `certsync` (home /home/certsync)" in text) is refused
    assert told(BALANCER, parse([line])) == ""


def test_what_the_oldest_ubuntu_is_too_old_for_is_refused() -> None:
    old = HostFacts(os=("ubuntu", "22.04"), ufw="inactive")
    assert told(REPLICA, old) == told(BALANCER, old) == ""
    two = (lineage(), lineage("shop.example.org"))
    assert told(REPLICA, old, lineages=two) == (
        "backend-02: its nginx 1.18 cannot refuse unknown names (1.19.4 can), so it takes one "
        "lineage\n  hint: use Ubuntu 24.04, Debian 12 or later, or remove [lineages] from the "
        "fleet file"
    )
    virtual = Balancer(virtual_addresses=("203.0.113.9",))
    assert told(BALANCER, old, balancer=virtual) == (
        "balancer: its UFW 0.36.1 cannot allow VRRP (0.36.2 can), which the balancers need\n"
        "  hint: use Ubuntu 24.04, Debian 12 or later, or remove ufw and use another firewall"
    )
    newer = replace(old, os=("ubuntu", "24.04"))
    assert told(REPLICA, newer, lineages=two) == told(BALANCER, newer, balancer=virtual) == ""


@pytest.mark.parametrize("limit", [0, 60])
def test_the_ports_that_are_looked_at_are_those_that_are_written(limit: int) -> None:
    made = fleet(balancing=Balancing(connections_per_client=limit, proxy_port=9443))
    members = dict.fromkeys(("backend-01", "backend-02", "backend-03"), True)
    gate = Gate(True, {NAME: members}, members, dict.fromkeys(members, 0))
    haproxy = templates.haproxy(made, BALANCER, gate)
    bound = re.findall(r"(?m)^ +(?:bind|peer \S+) \S+:(\d+)", haproxy)
    assert {int(port) for port in bound} == set(ports(made, BALANCER))
    nginx = "".join(templates.nginx(made, REPLICA, http2_directive=True).values())
    listens = re.findall(r"(?m)^ *listen (?:\S+:)?(\d+)", nginx)
    assert {int(port) for port in listens} == set(ports(made, REPLICA))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_script_tells_of_a_socket_that_listens_now(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        done = subprocess.run(
            ["sh", "-c", survey.script()], capture_output=True, text=True, check=True
        )
        port = server.getsockname()[1]
    [found] = [each for each in parse(done.stdout.splitlines()).listeners if each.port == port]
    assert found.process == os.getpid()
    assert found.program == Path("/proc/self/comm").read_text().strip()
    assert found.path == str(Path("/proc/self/exe").readlink())


SITES = HostFacts(nginx_sites=(("foreign", "/etc/nginx/sites-enabled/shop"),))


def test_another_nginx_site_is_refused() -> None:
    assert told(REPLICA, SITES) == (
        "backend-02: /etc/nginx/sites-enabled/shop is an nginx site that certsync did not write\n"
        '  hint: keep it with site.kind = "unmanaged", or move it aside with --adopt-nginx'
    )


def test_another_nginx_site_is_accepted_where_sites_are_not_ours_or_may_be_taken_over() -> None:
    assert told(REPLICA, SITES, Adopt(nginx=True)) == ""
    unmanaged = Site(kind=SiteKind.UNMANAGED)
    assert told(REPLICA, SITES, site=unmanaged) == ""
    two = (lineage(), lineage("shop.example.com", site=unmanaged))
    assert told(REPLICA, SITES, lineages=two) == ""
    assert foreign_sites(fleet(lineages=two), SITES) == []
    assert foreign_sites(FLEET, SITES) == ["/etc/nginx/sites-enabled/shop"]


def test_another_haproxy_cfg_is_refused_unless_adopted() -> None:
    seen = HostFacts(haproxy="foreign")
    assert told(BALANCER, seen) == (
        "balancer: /etc/haproxy/haproxy.cfg is neither the distribution's nor certsync's\n"
        "  hint: replace it with --adopt-haproxy, which keeps a dated copy"
    )
    assert told(BALANCER, seen, Adopt(haproxy=True)) == ""


def test_a_second_issuer_is_refused() -> None:
    assert told(REPLICA, HostFacts(issuer=True)) == (
        "backend-02: it is this fleet's issuer, but the fleet file names backend-01\n"
        "  hint: pull the newer fleet file, or promote backend-01: "
        "certsync promote FLEET backend-01"
    )


def test_a_fleet_file_older_than_the_issuers_is_refused() -> None:
    seen = HostFacts(issuer=True, known_machines=("backend-01", "backend-09"))
    assert told(ISSUER, seen) == (
        "backend-01: the issuer knows backend-09, but the fleet file does not\n"
        "  hint: pull the newer fleet file, or remove it with `certsync remove-backend`"
    )


@pytest.mark.parametrize(("python", "text"), [((3, 9), "the issuer has Python 3.9"), ((3, 10), "")])
def test_an_issuer_with_an_old_python_is_refused(python: tuple[int, ...], text: str) -> None:
    assert text in told(ISSUER, HostFacts(python=python))
    assert told(REPLICA, HostFacts(python=python)) == ""


SHARED = Balancer(virtual_addresses=("203.0.113.100",))


def test_somebody_elses_keepalived_is_refused_where_addresses_are_to_be_shared() -> None:
    seen = HostFacts(keepalived="foreign")
    assert told(BALANCER, seen, balancer=SHARED) == (
        "balancer: /etc/keepalived/keepalived.conf is not certsync's\n"
        "  hint: move it away, or remove balancer.virtual_addresses from the fleet file"
    )
    assert told(BALANCER, seen) == ""
    assert told(BALANCER, HostFacts(keepalived="ours"), balancer=SHARED) == ""


def test_a_balancer_that_the_fleet_file_lacks_leaves_by_the_issuers_list() -> None:
    seen = HostFacts(issuer=True, known_machines=("old",), known_balancers=("old",))
    assert told(ISSUER, seen) == (
        "backend-01: the issuer knows old, but the fleet file does not\n"
        "  hint: pull the newer fleet file, or switch it off permanently, then remove its line "
        "from /etc/certsync/machines there"
    )


def test_a_fleet_without_balancers_of_ours_has_had_some() -> None:
    seen = HostFacts(issuer=True, known_machines=("old", "gone"), known_balancers=("old",))
    words = told(ISSUER, seen, balancers=(), balancer=Balancer(Provider.NONE))
    assert words.startswith("backend-01: the issuer knows gone, but")


def test_an_older_list_that_does_not_say_who_is_a_balancer_is_to_be_written_anew_first() -> None:
    seen = HostFacts(issuer=True, known_machines=("backend-01", "old"))
    assert told(ISSUER, seen, balancers=(), balancer=Balancer(Provider.NONE)) == (
        "backend-01: the issuer knows old, but the fleet file does not\n"
        "  hint: pull the newer fleet file, or remove a backend with `certsync remove-backend`; "
        "if these are its balancers, first deploy with them in the fleet file, then set "
        "balancer.provider"
    )


FORMER = ISSUER.private_address
MARKED = ["issuer", "original " + "a" * 64 + " 1", f"original-address {FORMER}"]
ADDRESS = f"address eth0 {FORMER}/24"


@pytest.mark.parametrize(
    ("lines", "copied"),
    [
        (["machine " + "a" * 64, *MARKED, ADDRESS], False),
        (["machine " + "b" * 64, *MARKED, ADDRESS], True),
        (["machine " + "a" * 64, *MARKED, "address eth0 203.0.113.99/24"], True),
        (["machine " + "a" * 64, *MARKED[:2], "address eth0 203.0.113.99/24"], False),
        (["machine " + "b" * 64, "issuer"], False),
        (["machine " + "b" * 64, *MARKED[1:]], False),
    ],
    ids=[
        "the issuer", "another machine", "another address", "no address", "an older marker",
        "no marker",
    ],
)  # fmt: skip
def test_a_copy_of_the_issuer_is_told_from_the_issuer(lines: list[str], copied: bool) -> None:
    assert is_copy_of_issuer(parse(lines)) is copied


def test_a_copy_of_the_issuer_may_become_a_replica_and_a_former_issuer_may_not() -> None:
    fit = ["os debian 13", "python 3.13"]
    copy = parse([*fit, "machine " + "b" * 64, *MARKED])
    former = parse([*fit, "machine " + "a" * 64, *MARKED, ADDRESS])
    assert objections(FLEET, REPLICA, copy, NONE) == []
    [found] = objections(FLEET, REPLICA, former, NONE)
    assert "certsync promote" in found.hint

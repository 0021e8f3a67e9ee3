"""Every backend: nginx with the placeholder certificate, the receiver, the challenge location."""

from __future__ import annotations

import re
import shlex

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.operations import files

from certsync import look, receiver, templates
from certsync.fleet import Fleet, Machine
from certsync.options import SiteKind, WebAccess
from deploy.facts import Lines, Standing
from deploy.operations import (
    firewall_allows,
    nginx_configured,
    packages_present,
    put_aside,
    ran,
    ran_when,
    written,
)

PROGRAM = "/usr/local/lib/certsync/receiver"
TICKETS_UNIT = "certsync-tickets.service"
EVERYBODY = "allow 'Nginx Full'"
HTTP2_DIRECTIVE_SINCE = (1, 25, 1)
HYBRID_GROUP_SINCE = (3, 5)
"""OpenSSL's, of which X25519MLKEM768 is a part (draft-ietf-tls-ecdhe-mlkem)."""

NGINX = "nginx -V 2>&1 | sed -n 's,^nginx version: nginx/\\([0-9.]*\\).*,\\1,p'"
OPENSSL = "nginx -V 2>&1 | sed -n 's,^built with .*OpenSSL \\([0-9.]*\\).*,\\1,p'"
"""The last that is named is the one it runs with, where that is another than it was built with."""


@deploy("Backends: packages")
def packages(fleet: Fleet, machine: Machine) -> None:
    """Install what a backend needs from the distribution."""
    wanted = ["nginx", "rsync", "openssl", "sudo", "python3", "ca-certificates"]
    if machine == fleet.issuer:
        wanted += ["python3-venv", "cron", "openssh-client"]
    packages_present(name="Install nginx and what carries certificates", packages=wanted)


@deploy("Backends: receiver and nginx")
def configure(fleet: Fleet, machine: Machine) -> None:
    """Have nginx serve the site, with the placeholder until a certificate is there."""
    files.directory(name="Folder of the programs", path="/usr/local/lib/certsync", mode="755")
    source = templates.PACKAGE / "receiver.py"
    written(name="Receiver", path=PROGRAM, content=source.read_text(), mode="755")
    unit = "/etc/systemd/system/certsync-verify.service"
    text = templates.road() / "templates/replica/certsync-verify.service"
    verify = written(name="Verification at boot", path=unit, content=text.read_text())
    ran_when(
        name="systemd reads it",
        command="systemctl daemon-reload",
        needed=lambda: verify.changed,
    )
    ran(
        name="Verify certificates before nginx starts",
        command="systemctl enable -q certsync-verify.service",
        unless="systemctl is-enabled -q certsync-verify.service",
    )
    for each in fleet.lineages:
        if machine in each.holders:
            _placeholder(each, " of " + each.lineage if each.lineage != fleet.lineage else "")
    if fleet.share_tickets:
        _ticket_keys()
    _site(fleet, machine)
    for each in fleet.lineages:
        if machine not in each.holders and each.site.kind is not SiteKind.UNMANAGED:
            _no_certificate(each.lineage)
    _web_access(fleet, machine)


def _ticket_keys() -> None:
    """Have the keys there before nginx's configuration names them, and at every start of it."""
    text = (templates.road() / f"templates/replica/{TICKETS_UNIT}").read_text()
    unit = written(
        name="Session ticket keys before nginx starts",
        path=f"/etc/systemd/system/{TICKETS_UNIT}",
        content=text,
    )
    ran_when(
        name="systemd reads it",
        command="systemctl daemon-reload",
        needed=lambda: unit.changed,
    )
    there = f"test -s {receiver.TICKETS}/live/next.key"
    ran(
        name="Session ticket keys",
        command=f"systemctl enable -q {TICKETS_UNIT} && systemctl start {TICKETS_UNIT}",
        unless=f"systemctl is-enabled -q {TICKETS_UNIT} && {there}",
    )


def _placeholder(fleet: Fleet, which: str) -> None:
    names = " ".join(shlex.quote(name) for name in fleet.names)
    ran(
        name=f"Placeholder certificate, generation 0000{which}",
        command=f"{PROGRAM} placeholder {names}",
        unless=f"test -L {receiver.HOME}/live/{shlex.quote(fleet.lineage)}",
    )


def _no_certificate(lineage: str) -> None:
    """Have no key of a lineage that others serve, when nginx no longer names it."""
    name = shlex.quote(lineage)
    places = f"{receiver.HOME}/live/{name} {receiver.HOME}/archive/{name}"
    ran(
        name=f"No certificate of {lineage}",
        command=f"rm -rf {places} /etc/nginx/snippets/ssl-{name}.conf",
        unless=f"! ls -d {places} 2>/dev/null | grep -q .",
    )


def _site(fleet: Fleet, machine: Machine) -> None:
    files.directory(name="Folder of our own pages", path="/var/lib/certsync-site", mode="755")
    if any(each.site.test_page for each in fleet.lineages):
        written(
            name="Test page",
            path="/var/lib/certsync-site/lb.html",
            content=templates.test_page(machine, fleet.templates),
        )
    if host.data.get("adopt_nginx"):
        put_aside(
            name="Put other sites aside",
            paths=lambda: look.foreign_sites(fleet, host.get_fact(Standing)),
            remove=True,
        )
    nginx_configured(
        name="nginx",
        wanted=lambda: templates.nginx(
            fleet,
            machine,
            http2_directive=_version(NGINX) >= HTTP2_DIRECTIVE_SINCE,
            hybrid_group=_version(OPENSSL) >= HYBRID_GROUP_SINCE,
            own_bucket=_has_own_bucket(fleet),
        ),
        sites=templates.sites(fleet, machine),
        known=[templates.DEFAULT_SITE, *(templates.site_name(each) for each in fleet.lineages)],
    )


def _version(script: str) -> tuple[int, ...]:
    """Return the version that a script prints; empty: none."""
    lines = host.get_fact(Lines, script=script)
    return tuple(int(part) for part in re.findall(r"\d{1,4}", " ".join(lines[:1]))[:3])


def _has_own_bucket(fleet: Fleet) -> bool:
    if not templates.names_bucket(fleet):
        return False
    setting = "'^[[:space:]]*server_names_hash_bucket_size'"
    places = "/etc/nginx/nginx.conf /etc/nginx/conf.d"
    script = f"grep -rEl --exclude='certsync-*' {setting} {places}"
    return bool(host.get_fact(Lines, script=script))


def _web_access(fleet: Fleet, machine: Machine) -> None:
    port = fleet.balancing.proxy_port
    if fleet.firewall.web_access is WebAccess.ANYWHERE:
        allowed, wider = dict.fromkeys(fleet.trusted, f"{port}"), list[str]()
        rules = [EVERYBODY]
    else:
        allowed = dict.fromkeys(fleet.trusted, f"80,443,{port}")
        allowed[fleet.issuer.private_address] = "80,443"
        if machine == fleet.issuer:
            allowed |= {each.private_address: "80" for each in fleet.replicas}
        allowed.pop(machine.private_address, None)
        rules, wider = [], [EVERYBODY]
    rules += [
        f"allow from {address} to any port {ports} proto tcp" for address, ports in allowed.items()
    ]
    firewall_allows(
        name="Firewall",
        rules=rules,
        instead_of=wider,
        enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )

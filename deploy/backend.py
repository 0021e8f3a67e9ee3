"""Every backend: nginx with the placeholder certificate, the receiver, the challenge location."""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.operations import files

from certsync import receiver, templates
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
EVERYBODY = "allow 'Nginx Full'"
HTTP2_DIRECTIVE_SINCE = (1, 25, 1)


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
    lineage = shlex.quote(fleet.lineage)
    ran(
        name="Placeholder certificate, generation 0000",
        command=f"{PROGRAM} placeholder {' '.join(shlex.quote(name) for name in fleet.names)}",
        unless=f"test -L {receiver.HOME}/live/{lineage}",
    )
    _site(fleet, machine)
    _web_access(fleet, machine)


def _site(fleet: Fleet, machine: Machine) -> None:
    files.directory(name="Folder of our own pages", path="/var/lib/certsync-site", mode="755")
    if fleet.site.test_page:
        written(
            name="Test page",
            path="/var/lib/certsync-site/lb.html",
            content=templates.test_page(machine, fleet.templates),
        )
    if host.data.get("adopt_nginx"):
        put_aside(name="Put other sites aside", paths=_foreign_sites, remove=True)
    sites = {}
    if fleet.site.kind is not SiteKind.UNMANAGED:
        sites = {templates.site_name(fleet): True, "default": False}
    nginx_configured(
        name="nginx",
        wanted=lambda: templates.nginx(fleet, machine, http2_directive=_has_http2_directive()),
        sites=sites,
    )


def _foreign_sites() -> list[str]:
    seen = host.get_fact(Standing)
    return [path for origin, path in seen.nginx_sites if origin == "foreign"]


def _has_http2_directive() -> bool:
    script = "nginx -v 2>&1 | sed -n 's,.*nginx/\\([0-9.]*\\).*,\\1,p'"
    versions = host.get_fact(Lines, script=script)
    if not versions:
        return False
    return tuple(int(part) for part in versions[0].split(".")) >= HTTP2_DIRECTIVE_SINCE


def _web_access(fleet: Fleet, machine: Machine) -> None:
    if fleet.firewall.web_access is WebAccess.ANYWHERE:
        rules, wider = [EVERYBODY], list[str]()
    else:
        allowed = {each.private_address: "80,443" for each in (*fleet.balancers, fleet.issuer)}
        if machine == fleet.issuer:
            allowed |= {each.private_address: "80" for each in fleet.replicas}
        allowed.pop(machine.private_address, None)
        wider = [EVERYBODY]
        rules = [
            f"allow from {address} to any port {ports} proto tcp"
            for address, ports in allowed.items()
        ]
    firewall_allows(
        name="Firewall",
        rules=rules,
        instead_of=wider,
        enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )

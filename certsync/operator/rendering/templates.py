"""Renders the configuration files: jinja2 templates filled from a fleet. Only reads files.

A file in the fleet's own templates folder replaces ours of the same name.
"""

from __future__ import annotations

import ipaddress
import os
import re
import zlib
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

import certsync
from certsync.model.fleet import SYSTEM_ROOTS, Fleet, Lineage, Machine
from certsync.model.options import SiteKind
from certsync.operator.balancer import checks, vrrp
from certsync.operator.balancer.gate import Gate, pool_name
from certsync.operator.hosts.facts import MARK, PEER_PORT
from certsync.operator.rendering.timetable import moment_of

PACKAGE = Path(certsync.__file__).resolve().parent
HEADER = f"{MARK}; changes here are lost at the next deploy."
BALANCER_ROOTS = "/etc/haproxy/certsync-roots.pem"

CHALLENGE_CHECK = "/.well-known/acme-challenge/certsync-route"
CHALLENGE_ANSWER = "certsync-route-leads-to"

NAMES_BUCKET = 64
"""nginx's default size of a bucket of server names, in bytes: a cache line."""

DEFAULT_SITE = "certsync-default.conf"
HUE_STEP = 137
"""Degrees between colours: near the golden angle, so that a few colours are easy to tell apart."""


def road() -> Path:
    """Return the folder with deploy/ and templates/: the checkout, or the wheel's copy."""
    carried = PACKAGE / "_road"
    return carried if carried.is_dir() else PACKAGE.parent


class _Loader(jinja2.FileSystemLoader):
    """Prefers a fleet's own templates to ours; refuses links out of the fleet's folder."""

    def __init__(self, own: str, ours: str) -> None:
        super().__init__([own, ours] if own else [ours])
        self._own = own

    def get_source(self, environment: Any, template: str) -> Any:
        """Return a template's text, its path, and a function that tells whether it is up to date.

        Raises:
            jinja2.TemplateNotFound: it is hidden, outside the folder, or does not exist.
        """
        if self._own and (is_hidden(template) or leads_out(self._own, template)):
            why = f"{template!r} is hidden or outside {self._own}"
            raise jinja2.TemplateNotFound(template, why)
        return super().get_source(environment, template)


class _Compiled(jinja2.BytecodeCache):
    """Caches compiled templates by name and text: compiling takes most of the time."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Any) -> None:
        """Load a cached template; jinja2 rejects one compiled from another text."""
        if kept := self._kept.get(bucket.key):
            bucket.bytecode_from_string(kept)

    def dump_bytecode(self, bucket: Any) -> None:
        """Cache a compiled template."""
        self._kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = _Compiled()


def is_hidden(name: str) -> bool:
    """Return whether any part of a relative path is hidden."""
    return any(part.startswith(".") for part in name.split("/"))


def leads_out(folder: str, name: str) -> bool:
    """Return whether a relative path leads out of the folder through a link."""
    return not Path(os.path.realpath(Path(folder) / name)).is_relative_to(os.path.realpath(folder))


def render(name: str, own: str, **values: Any) -> str:
    """Render a template; ``own`` is the folder with a fleet's own templates.

    Every file we write says so in its first line, or the next deploy would treat it as foreign.
    In the sandbox a template can only make text: `certsync check` of somebody else's fleet runs
    none of their code.

    Raises:
        jinja2.TemplateError: the template has a mistake, or breaks out of the sandbox.
    """
    environment = ImmutableSandboxedEnvironment(
        loader=_Loader(own, str(road() / "templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=COMPILED,
        autoescape=False,  # nginx and HAProxy files; every value is validated
    )
    environment.filters["bracketed"] = bracketed
    text = environment.get_template(name).render(
        header=HEADER,
        challenge_check=CHALLENGE_CHECK,
        challenge_answer=CHALLENGE_ANSWER,
        **values,
    )
    if MARK in text.partition("\n")[0]:
        return text
    first = f"<!-- {HEADER} -->" if name.endswith(".html.j2") else f"# {HEADER}"
    return f"{first}\n{text}"


def bracketed(address: str) -> str:
    """Return an IP address in the form used before a port: IPv6 in brackets."""
    return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address


def haproxy(
    fleet: Fleet, machine: Machine, gate: Gate, *, roots_sum: str = "", connections: int = 0
) -> str:
    """Return a balancer's haproxy.cfg.

    ``roots_sum`` is the SHA-256 of the fleet's own roots file: HAProxy reads that file only on
    reload, so the configuration has to change with it. ``connections`` is the limit of concurrent
    connections; 0: HAProxy's own, from its limit of open files.
    """
    values: dict[str, Any] = {
        "fleet": fleet,
        "machine": machine,
        "gate": gate,
        "pools": [(pool_name(fleet, each.name), each) for each in fleet.lineages],
        "roots": BALANCER_ROOTS if fleet.authority.roots else SYSTEM_ROOTS,
        "roots_sum": roots_sum,
        "connections": connections,
        "check_seconds": checks.interval(fleet),
        "peer_port": PEER_PORT,
    }
    return render("haproxy/haproxy.cfg.j2", fleet.templates, **values)


def keepalived(fleet: Fleet, machine: Machine, interface: str) -> str:
    """Return a balancer's keepalived.conf; ``interface`` is that of its private address."""
    advertised = [vrrp.with_prefix(each) for each in vrrp.advertised(fleet, machine)]
    carried_along = [vrrp.with_prefix(each) for each in vrrp.carried_along(fleet, machine)]
    values: dict[str, Any] = {
        "fleet": fleet,
        "machine": machine,
        "interface": interface,
        "identifier": vrrp.identifier(fleet.balancer.virtual_addresses),
        "priority": vrrp.priority(fleet, machine),
        "peers": vrrp.peers(fleet, machine),
        "advertised": advertised,
        "carried_along": carried_along,
    }
    return render("keepalived/keepalived.conf.j2", fleet.templates, **values)


def keepalived_service(fleet: Fleet, interface: str) -> str:
    """Return the drop-in for keepalived's unit."""
    addresses = [vrrp.with_prefix(each) for each in fleet.balancer.virtual_addresses]
    values: dict[str, Any] = {"addresses": addresses, "interface": interface}
    return render("keepalived/service.conf.j2", fleet.templates, **values)


def names_bucket(fleet: Fleet) -> int:
    """Return the bucket size that nginx needs for a fleet's names; 0: its default is enough.

    A name takes its length plus 18 bytes, rounded up (nginx's `ngx_hash.c`, on 64 bits).
    """
    longest = max(len(name) for each in fleet.lineages for name in each.names)
    bucket = NAMES_BUCKET
    while bucket < longest + 18:
        bucket *= 2
    return bucket if bucket > NAMES_BUCKET else 0


def nginx(
    fleet: Fleet,
    machine: Machine,
    *,
    http2_directive: bool,
    own_bucket: bool = False,
    hybrid_group: bool = False,
) -> dict[str, str]:
    """Return the files of a backend's nginx, text by path below /etc/nginx.

    ``own_bucket``: another file sets `server_names_hash_bucket_size`, which nginx accepts only
    once. ``hybrid_group``: its OpenSSL knows X25519MLKEM768; an older one rejects a configuration
    that names it.
    """
    own = fleet.templates
    shared: dict[str, Any] = {
        "fleet": fleet,
        "machine": machine,
        "issuer": fleet.issuer,
        "http2_directive": http2_directive,
        "hybrid_group": hybrid_group,
        "names_bucket": 0 if own_bucket else names_bucket(fleet),
    }
    files = {
        "conf.d/certsync-balancers.conf": render("nginx/balancers.conf.j2", own, **shared),
        "snippets/certsync-challenge.conf": render("nginx/challenge.conf.j2", own, **shared),
    }
    if fleet.share_tickets:
        files["conf.d/certsync-tickets.conf"] = render("nginx/tickets.conf.j2", own, **shared)
    if fleet.is_managed:
        files[f"sites-available/{DEFAULT_SITE}"] = render("nginx/default.conf.j2", own, **shared)
    for each in fleet.lineages:
        if machine in fleet.holders(each):
            values = {**shared, "lineage": each, "member": machine in fleet.members(each)}
            snippet = f"snippets/ssl-{each.name}.conf"
            files[snippet] = render("nginx/ssl.conf.j2", own, **values)
            if each.site.kind is not SiteKind.UNMANAGED:
                site = f"sites-available/{site_name(each)}"
                files[site] = render("nginx/site.conf.j2", own, **values)
    return files


def sites(fleet: Fleet, machine: Machine) -> dict[str, bool]:
    """Return the names in a backend's sites-enabled, and whether each should be enabled.

    With an unmanaged site, another server may be the default for port 80.
    """
    found = {
        site_name(each): machine in fleet.holders(each)
        for each in fleet.lineages
        if each.site.kind is not SiteKind.UNMANAGED
    }
    found[DEFAULT_SITE] = fleet.is_managed
    return {**found, "default": False} if fleet.is_managed else found


def render_renewal(name: str, fleet: Fleet) -> str:
    """Return one of the files that start renewal runs on the issuer."""
    return render(f"renewal/{name}", fleet.templates, fleet=fleet, moment=moment_of(fleet))


def site_name(lineage: Lineage) -> str:
    """Return the name of the site's file in sites-available."""
    return f"certsync-{lineage.name}.conf"


def test_page(machine: Machine, own: str) -> str:
    """Return the page that shows which backend answered, in a colour of its own."""
    # From its own name only, so that other backends joining or leaving change nothing here.
    digits = re.sub(r"\D", "", machine.name)[-4:]
    number = int(digits) if digits else zlib.crc32(machine.name.encode())
    return render("nginx/lb.html.j2", own, machine=machine, hue=number * HUE_STEP % 360)

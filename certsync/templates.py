"""The configuration files as text: jinja2 templates filled from a fleet. Reading only."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import jinja2

from certsync.fleet import SYSTEM_ROOTS, Fleet, Machine
from certsync.gate import Gate
from certsync.look import MARK
from certsync.moment import moment_of

PACKAGE = Path(__file__).resolve().parent
HEADER = f"{MARK}; changes here are lost at the next deploy."
BALANCER_ROOTS = "/etc/haproxy/certsync-roots.pem"

CHALLENGE_CHECK = "/.well-known/acme-challenge/certsync-route"
CHALLENGE_ANSWER = "certsync-route-is-open"

HUES = 12
"""How many colours the test pages take turns with."""


def road() -> Path:
    """Return the folder that holds deploy/ and templates/: the checkout, or the wheel's copy."""
    carried = PACKAGE / "_road"
    return carried if carried.is_dir() else PACKAGE.parent


def render(name: str, **values: Any) -> str:
    """Return a template's text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(road() / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  nginx and HAProxy files; every value is validated
    )
    environment.filters["bracketed"] = bracketed
    return environment.get_template(name).render(
        header=HEADER,
        challenge_check=CHALLENGE_CHECK,
        challenge_answer=CHALLENGE_ANSWER,
        **values,
    )


def bracketed(address: str) -> str:
    """Return an IP address as URLs and configuration files write it before a port."""
    return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address


def haproxy(fleet: Fleet, gate: Gate, roots_sum: str = "") -> str:
    """Return the balancer's haproxy.cfg.

    ``roots_sum`` is the SHA-256 of a roots file of the fleet's own: HAProxy reads the file when it
    is reloaded, so the configuration changes with it.
    """
    roots = BALANCER_ROOTS if fleet.authority.roots else SYSTEM_ROOTS
    return render(
        "haproxy/haproxy.cfg.j2", fleet=fleet, gate=gate, roots=roots, roots_sum=roots_sum
    )


def nginx(fleet: Fleet, machine: Machine, *, http2_directive: bool) -> dict[str, str]:
    """Return the files of a backend's nginx, path below /etc/nginx to text."""
    values: dict[str, Any] = {
        "fleet": fleet,
        "machine": machine,
        "issuer": fleet.issuer,
        "http2_directive": http2_directive,
    }
    files = {
        "snippets/certsync-challenge.conf": render("nginx/challenge.conf.j2", **values),
        f"snippets/ssl-{fleet.lineage}.conf": render("nginx/ssl.conf.j2", **values),
    }
    if fleet.site.kind.value != "unmanaged":
        files[f"sites-available/{site_name(fleet)}"] = render("nginx/site.conf.j2", **values)
    return files


def render_renewal(name: str, fleet: Fleet) -> str:
    """Return one of the files that start renewal runs on the issuer."""
    return render(f"renewal/{name}", fleet=fleet, moment=moment_of(fleet))


def site_name(fleet: Fleet) -> str:
    """Return the name of the site's file in sites-available."""
    return f"certsync-{fleet.lineage}.conf"


def test_page(fleet: Fleet, machine: Machine) -> str:
    """Return the page that shows which backend answered, in a colour of its own."""
    names = [host.name for host in fleet.backends]
    hue = names.index(machine.name) * 360 // max(len(names), HUES // 4)
    return render("nginx/lb.html.j2", machine=machine, hue=hue)

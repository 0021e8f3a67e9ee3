"""The configuration files as text: jinja2 templates filled from a fleet. Reading only.

A file in the fleet's own folder of templates takes the place of ours with the same name.
"""

from __future__ import annotations

import ipaddress
import re
import zlib
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
CHALLENGE_ANSWER = "certsync-route-leads-to"

HUE_STEP = 137
"""Degrees from one colour to the next: near the golden angle, so that no two of few are alike."""


def road() -> Path:
    """Return the folder that holds deploy/ and templates/: the checkout, or the wheel's copy."""
    carried = PACKAGE / "_road"
    return carried if carried.is_dir() else PACKAGE.parent


def render(name: str, own: str, **values: Any) -> str:
    """Return a template's text; ``own`` is the folder that a fleet has templates of its own in.

    Every file we write says so in its first line, or the next deploy would take it for another's.
    """
    folders = [own] * bool(own) + [str(road() / "templates")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  nginx and HAProxy files; every value is validated
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
    """Return an IP address as URLs and configuration files write it before a port."""
    return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address


def haproxy(fleet: Fleet, gate: Gate, roots_sum: str = "") -> str:
    """Return the balancer's haproxy.cfg.

    ``roots_sum`` is the SHA-256 of a roots file of the fleet's own: HAProxy reads the file when it
    is reloaded, so the configuration changes with it.
    """
    roots = BALANCER_ROOTS if fleet.authority.roots else SYSTEM_ROOTS
    values: dict[str, Any] = {"fleet": fleet, "gate": gate, "roots": roots, "roots_sum": roots_sum}
    return render("haproxy/haproxy.cfg.j2", fleet.templates, **values)


def nginx(fleet: Fleet, machine: Machine, *, http2_directive: bool) -> dict[str, str]:
    """Return the files of a backend's nginx, path below /etc/nginx to text."""
    values: dict[str, Any] = {
        "fleet": fleet,
        "machine": machine,
        "issuer": fleet.issuer,
        "http2_directive": http2_directive,
    }
    own = fleet.templates
    files = {
        "snippets/certsync-challenge.conf": render("nginx/challenge.conf.j2", own, **values),
        f"snippets/ssl-{fleet.lineage}.conf": render("nginx/ssl.conf.j2", own, **values),
    }
    if fleet.site.kind.value != "unmanaged":
        files[f"sites-available/{site_name(fleet)}"] = render("nginx/site.conf.j2", own, **values)
    return files


def render_renewal(name: str, fleet: Fleet) -> str:
    """Return one of the files that start renewal runs on the issuer."""
    return render(f"renewal/{name}", fleet.templates, fleet=fleet, moment=moment_of(fleet))


def site_name(fleet: Fleet) -> str:
    """Return the name of the site's file in sites-available."""
    return f"certsync-{fleet.lineage}.conf"


def test_page(machine: Machine, own: str) -> str:
    """Return the page that shows which backend answered, in a colour of its own."""
    # By its own name alone: who else comes and goes changes nothing here.
    digits = re.sub(r"\D", "", machine.name)[-4:]
    number = int(digits) if digits else zlib.crc32(machine.name.encode())
    return render("nginx/lb.html.j2", own, machine=machine, hue=number * HUE_STEP % 360)

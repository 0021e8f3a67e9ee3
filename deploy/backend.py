"""Every backend: nginx with the placeholder certificate, the receiver, the challenge location."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping

from certsync.model.errors import CertsyncError
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.options import SiteKind, WebAccess
from certsync.model.paths import PROGRAMS, RECEIVER, TICKETS_UNIT, UNITS, VERIFY_UNIT
from certsync.operator.deployment import operations
from certsync.operator.hosts import facts, objections
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from certsync.programs import FOLDER, receiver, text_of
from deploy import step
from deploy.step import Step, Steps

UNFINISHED = "/run/certsync-candidate"
EVERYBODY = "allow 'Nginx Full'"
HTTP2_DIRECTIVE_SINCE = (1, 25, 1)
HYBRID_GROUP_SINCE = (3, 5)
"""The OpenSSL version that has X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem)."""


def packages(fleet: Fleet, machine: Machine, seen: Survey) -> Steps:
    """Install the distribution's packages for a backend."""
    wanted = ["nginx", "rsync", "openssl", "sudo", "python3", "ca-certificates"]
    if machine == fleet.issuer:
        wanted += ["python3-venv", "cron", "openssh-client"]
    yield step.packages(seen, "Install nginx and its tools", wanted)


def configure(fleet: Fleet, machine: Machine, seen: Survey, *, adopt: bool = False) -> Steps:
    """Make nginx serve the site, with the placeholder until there is a certificate.

    ``adopt``: move other sites aside.
    """
    yield step.directory(seen, "Program folder", PROGRAMS)
    source = FOLDER / "receiver.py"
    yield step.file(seen, "Receiver", RECEIVER, source.read_text(), mode="755")
    units = dict(_units(fleet, seen))
    yield from units.values()
    yield step.units_read(seen, units)
    yield step.enabled(seen, "Verify certificates before nginx starts", VERIFY_UNIT)
    for each in fleet.lineages:
        if machine in fleet.holders(each):
            yield _placeholder(fleet, each, seen)
    if fleet.share_tickets:
        yield _ticket_keys(seen)
    yield from _site(fleet, machine, seen, adopt=adopt)
    for each in fleet.lineages:
        if machine not in fleet.holders(each) and each.site.kind is not SiteKind.UNMANAGED:
            yield _no_certificate(each.name, seen)
    yield _web_access(fleet, machine, seen)


def _units(fleet: Fleet, seen: Survey) -> list[tuple[str, Step]]:
    """Return our systemd units, which come before the nginx configuration that needs them."""
    wanted = {VERIFY_UNIT: "Verification at boot"}
    if fleet.share_tickets:
        wanted[TICKETS_UNIT] = "Session ticket keys before nginx starts"
    folder = templates.road() / "templates/replica"
    return [
        (unit, step.file(seen, name, f"{UNITS}/{unit}", (folder / unit).read_text()))
        for unit, name in wanted.items()
    ]


def _ticket_keys(seen: Survey) -> Step:
    is_so = seen.has_ticket_keys and seen.unit(TICKETS_UNIT).enabled == "enabled"
    script = f"systemctl enable -q {TICKETS_UNIT} && systemctl start {TICKETS_UNIT}"
    return step.command(operations.TICKET_KEYS, script, needed=not is_so)


def _placeholder(fleet: Fleet, lineage: Lineage, seen: Survey) -> Step:
    live = seen.entries.get(f"{receiver.HOME}/live/{lineage.name}")
    which = f" of {lineage.name}" if lineage.name != fleet.name else ""
    return step.command(
        f"{operations.PLACEHOLDER}{which}",
        shlex.join([RECEIVER, "placeholder", *lineage.names]),
        needed=live is None or live.kind != "l",
    )


def _no_certificate(lineage: str, seen: Survey) -> Step:
    """Remove the key of a lineage that this backend does not hold, once nginx does not use it."""
    places = [f"{receiver.HOME}/live/{lineage}", f"{receiver.HOME}/archive/{lineage}"]
    return step.command(
        f"No certificate of {lineage}",
        shlex.join(["rm", "-rf", *places, f"/etc/nginx/snippets/ssl-{lineage}.conf"]),
        needed=any(map(seen.has, places)),
    )


def _site(fleet: Fleet, machine: Machine, seen: Survey, *, adopt: bool) -> Steps:
    yield step.directory(seen, "Folder of certsync's pages", "/var/lib/certsync-site")
    if any(each.site.test_page for each in fleet.lineages):
        page = templates.test_page(machine, fleet.templates)
        yield step.file(seen, "Test page", "/var/lib/certsync-site/lb.html", page)
    if adopt:
        foreign = objections.foreign_sites(fleet, seen.facts)
        yield step.kept_aside("Move other sites aside", foreign, remove=True)
    yield nginx(
        operations.NGINX,
        lambda: templates.nginx(
            fleet,
            machine,
            http2_directive=seen.versions.get("nginx", ()) >= HTTP2_DIRECTIVE_SINCE,
            hybrid_group=seen.versions.get("openssl", ()) >= HYBRID_GROUP_SINCE,
            own_bucket=bool(templates.names_bucket(fleet)) and seen.has_own_bucket,
        ),
        templates.sites(fleet, machine),
        [templates.DEFAULT_SITE, *(templates.site_name(each) for each in fleet.lineages)],
        seen,
    )


def nginx(
    name: str,
    wanted: Callable[[], Mapping[str, str]],
    sites: Mapping[str, bool],
    known: Collection[str],
    seen: Survey,
) -> Step:
    """Return the step that installs these files below /etc/nginx, tested together first.

    ``wanted`` returns paths and texts; ``sites`` maps names in sites-enabled to whether they should
    be there. One of our sites that is neither among them nor ``known`` belongs to a former lineage,
    and is disabled.
    """
    try:
        texts = wanted()
    except (CertsyncError, OSError) as error:
        return step.refused(name, error)
    changed = {
        path: text for path, text in texts.items() if seen.text(f"/etc/nginx/{path}") != text
    }
    enabled = seen.names_in("/etc/nginx/sites-enabled")
    left = [site for site in enabled if _is_ours(site, seen) and site not in known]
    on_or_off = {**dict.fromkeys(left, False), **sites}
    switched = {site: on for site, on in on_or_off.items() if (site in enabled) != on}
    if not changed and not switched and not seen.has(UNFINISHED):
        return step.runs(seen, name, "nginx")
    changes = [("place", f"/etc/nginx/{path}", f"{number}") for number, path in enumerate(changed)]
    for site, on in switched.items():
        path = f"/etc/nginx/sites-enabled/{site}"
        changes.append(("link", path, f"../sites-available/{site}") if on else ("remove", path, ""))
    files = {f"{number}": text for number, text in enumerate(changed.values())}
    files |= {"changes": json.dumps(changes, indent=1), "change.py": text_of("change.py")}
    shown = [
        change
        for path, text in changed.items()
        for change in step.changed(seen, f"/etc/nginx/{path}", text)
    ]
    return Step(name, "configure_nginx changes", files, tuple(shown))


def _is_ours(site: str, seen: Survey) -> bool:
    folders = ("sites-enabled", "sites-available")
    texts = [seen.text(f"/etc/nginx/{folder}/{site}") for folder in folders]
    return site.startswith("certsync-") and any(facts.MARK in text for text in texts)


def _web_access(fleet: Fleet, machine: Machine, seen: Survey) -> Step:
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
    return step.firewall(
        seen,
        rules,
        instead_of=wider,
        enable=fleet.firewall.enable,
        ssh_port=machine.ssh_port,
    )

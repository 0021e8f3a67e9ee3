"""Removal: from a backend that leaves, from a former issuer, from everywhere.

Each function removes one thing completely, and does nothing if it does not exist.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath

from certsync.model import paths
from certsync.model.fleet import Fleet
from certsync.model.paths import PROGRAMS, RECEIVER, TICKETS_UNIT, UNITS, VERIFY_UNIT
from certsync.operator.hosts.survey import Survey
from certsync.programs import receiver
from deploy import issuer, renewal, replica, step
from deploy.step import Steps

ARCHIVE, LIVE = f"{receiver.HOME}/archive", f"{receiver.HOME}/live"
VERIFY = f"{UNITS}/{VERIFY_UNIT}"


def runs(seen: Survey) -> Steps:
    """Stop scheduled renewals."""
    yield step.absent(seen, "No renewal from cron", renewal.CRON)
    yield renewal.no_timer(seen)


def issuing(seen: Survey) -> Steps:
    """Remove everything that makes a host the issuer: accounts, push key, state, certsync."""
    # Before its group: files left by a killed run are readable by a group ID that may be reused.
    for name, path in (
        ("No outgoing generation", str(paths.PUSH_RUNTIME)),
        ("No rehearsal", str(paths.REHEARSAL)),
    ):
        yield step.absent(seen, name, path)
    yield step.no_user(seen, "No pushing user", issuer.USER)
    # The marker last: it shows that an interrupted removal is unfinished.
    for name, path in (
        ("No push key", issuer.PUSH),
        ("No accounts", f"{issuer.STORE.root}/accounts"),
        ("No open orders", f"{issuer.STORE.root}/pending"),
        ("No state", str(issuer.STORE.state)),
        ("No certsync", paths.OPT),
        ("No command", "/usr/local/bin/certsync"),
        ("No renewal program", renewal.PROGRAM),
        ("No rendered fleet", str(issuer.STORE.fleet_file)),
        ("No origin of the rendered fleet", str(issuer.STORE.origin)),
        ("No list of machines", str(issuer.STORE.machines)),
        ("No list of former machines", str(issuer.STORE.left)),
        ("No roots for the CA's HTTPS", str(issuer.STORE.directory_bundle)),
        ("No roots for issued certificates", str(issuer.STORE.roots)),
        ("No account binding key", str(issuer.STORE.binding_key)),
        ("No notification URLs", str(issuer.STORE.notify_urls)),
        ("No issuer marker", str(issuer.STORE.marker)),
    ):
        yield step.absent(seen, name, path)


def access(seen: Survey) -> Steps:
    """Stop pushes: remove the key line first, then the user and its rights."""
    yield step.absent(seen, "No accepted push key", replica.KEYS)
    yield step.absent(seen, "No sudo rule", replica.SUDO_RULE)
    yield step.no_user(seen, "No receiving user", replica.USER)
    yield step.absent(seen, "No inbox", replica.HOME)
    yield from tickets_inbox(seen)
    for path in (replica.FORCED_COMMAND, replica.FORMER_NAME, f"{PROGRAMS}/rsyncd.conf"):
        yield step.absent(seen, f"No {PurePath(path).name}", path)


def tickets_inbox(seen: Survey) -> Steps:
    """Remove the inbox of session ticket keys."""
    yield step.absent(seen, "No inbox of session ticket keys, at boot", replica.TMPFILES)
    inbox = str(receiver.TICKETS_INBOX.parent)
    yield step.absent(seen, "No inbox of session ticket keys", inbox)


def tickets(seen: Survey) -> Steps:
    """Make nginx use its own session ticket keys, and remove the shared ones."""
    keys = str(receiver.TICKETS)
    paths = ("/etc/nginx/conf.d/certsync-tickets.conf", f"{UNITS}/{TICKETS_UNIT}", keys)
    script = shlex.join(["no_tickets", TICKETS_UNIT, keys])
    exists = any(map(seen.has, paths))
    yield step.command("No shared session ticket keys", script, needed=exists)


def programs(seen: Survey) -> Steps:
    """Remove the receiver and the verification at boot; nginx starts without them."""
    yield step.command(
        "No verification at boot",
        f"systemctl disable -q {VERIFY_UNIT}",
        needed=seen.unit(VERIFY_UNIT).enabled == "enabled",
    )
    unit = step.absent(seen, "No verification unit", VERIFY)
    yield unit
    yield step.command("systemd reload", "systemctl daemon-reload", needed=bool(unit.script))
    yield step.absent(seen, "No receiver", RECEIVER)
    yield step.absent(seen, "No program folder", PROGRAMS)
    yield step.absent(seen, "No staging", f"{receiver.HOME}/staging")


def connections(fleet: Fleet, seconds: int, seen: Survey) -> Steps:
    """Wait until the last connections to nginx have ended."""
    yield step.command(
        "Wait for the last connections",
        f"last_connections {seconds} {fleet.balancing.proxy_port}",
        needed=seen.unit("nginx").active in ("active", "reloading"),
    )


def site(fleet: Fleet, seen: Survey) -> Steps:
    """Stop nginx from serving our site, and remove key and certificate from the disk."""
    if not fleet.is_managed:
        # Unmanaged sites refer to the live link, and nginx would not start without it.
        for each in fleet.lineages:
            kept = seen.names_in(f"{ARCHIVE}/{each.name}")
            yield step.command(
                "Placeholder instead of key and certificate",
                shlex.join(["placeholder_live", each.name]),
                needed=kept not in ([], [receiver.PLACEHOLDER]),
            )
        return
    ours = any(each.startswith("certsync-") for each in seen.names_in("/etc/nginx/sites-available"))
    yield step.command("nginx no longer serves the site", "no_site", needed=ours)
    yield step.command(
        "No key and certificate",
        f"rm -rf {ARCHIVE} {LIVE} && rmdir --ignore-fail-on-non-empty {receiver.HOME}",
        needed=seen.has(ARCHIVE) or seen.has(LIVE),
    )
    yield step.absent(seen, "No pages of certsync", "/var/lib/certsync-site")

"""What is taken away again: from a backend that leaves, a former issuer, everywhere.

Each function takes one thing away, whole, and does nothing where it is not there.
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
    """Have nothing start a renewal any more."""
    yield step.absent(seen, "No renewal from cron", renewal.CRON)
    yield renewal.no_timer(seen)


def issuing(seen: Survey) -> Steps:
    """Take away all that makes a host the issuer: accounts, push key, state, certsync itself."""
    # What a killed run has left there is readable for a group whose number is given away again.
    for name, path in (
        ("No generation on its way", str(paths.PUSH_RUNTIME)),
        ("No rehearsal", str(paths.REHEARSAL)),
    ):
        yield step.absent(seen, name, path)
    yield step.no_user(seen, "No pushing user", issuer.USER)
    # The marker last: with it a run that was cut off is known to be unfinished.
    for name, path in (
        ("No push key", issuer.PUSH),
        ("No accounts", f"{issuer.STORE.root}/accounts"),
        ("No open orders", f"{issuer.STORE.root}/pending"),
        ("No state", str(issuer.STORE.state)),
        ("No certsync", paths.OPT),
        ("No command", "/usr/local/bin/certsync"),
        ("Nothing that starts a run", renewal.PROGRAM),
        ("No rendered fleet", str(issuer.STORE.fleet_file)),
        ("No note where it came from", str(issuer.STORE.origin)),
        ("No list of machines", str(issuer.STORE.machines)),
        ("No list of who has left", str(issuer.STORE.left)),
        ("No roots of the CA's HTTPS", str(issuer.STORE.directory_bundle)),
        ("No roots of issued certificates", str(issuer.STORE.roots)),
        ("No keys of people's", str(issuer.STORE.binding_key)),
        ("No addresses of people's", str(issuer.STORE.notify_urls)),
        ("No marker of the issuer", str(issuer.STORE.marker)),
    ):
        yield step.absent(seen, name, path)


def access(seen: Survey) -> Steps:
    """Let nobody push any more: the key line first, then the user and what it may do."""
    yield step.absent(seen, "No push key lets in", replica.KEYS)
    yield step.absent(seen, "No sudo rule", replica.SUDO_RULE)
    yield step.no_user(seen, "No receiving user", replica.USER)
    yield step.absent(seen, "No inbox", replica.HOME)
    yield from tickets_inbox(seen)
    for path in (replica.FORCED_COMMAND, replica.FORMER_NAME, f"{PROGRAMS}/rsyncd.conf"):
        yield step.absent(seen, f"No {PurePath(path).name}", path)


def tickets_inbox(seen: Survey) -> Steps:
    """Take away what session ticket keys come in by."""
    yield step.absent(seen, "No inbox of session ticket keys, at boot", replica.TMPFILES)
    inbox = str(receiver.TICKETS_INBOX.parent)
    yield step.absent(seen, "No inbox of session ticket keys", inbox)


def tickets(seen: Survey) -> Steps:
    """Have nginx use keys that it makes itself, and take away those that were shared."""
    keys = str(receiver.TICKETS)
    paths = ("/etc/nginx/conf.d/certsync-tickets.conf", f"{UNITS}/{TICKETS_UNIT}", keys)
    script = shlex.join(["no_tickets", TICKETS_UNIT, keys])
    there = any(map(seen.has, paths))
    yield step.command("No shared session ticket keys", script, needed=there)


def programs(seen: Survey) -> Steps:
    """Take away the receiver and the check before nginx starts; nginx starts without it."""
    yield step.command(
        "No verification at boot",
        f"systemctl disable -q {VERIFY_UNIT}",
        needed=seen.unit(VERIFY_UNIT).enabled == "enabled",
    )
    unit = step.absent(seen, "No unit of it", VERIFY)
    yield unit
    yield step.command("systemd forgets it", "systemctl daemon-reload", needed=bool(unit.script))
    yield step.absent(seen, "No receiver", RECEIVER)
    yield step.absent(seen, "No folder of the programs", PROGRAMS)
    yield step.absent(seen, "No staging", f"{receiver.HOME}/staging")


def connections(fleet: Fleet, seconds: int, seen: Survey) -> Steps:
    """Wait until nobody is connected to nginx any more."""
    yield step.command(
        "Last connections end",
        f"last_connections {seconds} {fleet.balancing.proxy_port}",
        needed=seen.unit("nginx").active in ("active", "reloading"),
    )


def site(fleet: Fleet, seen: Survey) -> Steps:
    """Have nginx stop serving our site, and remove key and certificate from the disk."""
    if not fleet.is_managed:
        # Somebody else's sites name the live link, and nginx would not start without it.
        for each in fleet.lineages:
            there = seen.names_in(f"{ARCHIVE}/{each.name}")
            yield step.command(
                "Placeholder instead of key and certificate",
                shlex.join(["placeholder_live", each.name]),
                needed=there not in ([], [receiver.PLACEHOLDER]),
            )
        return
    ours = any(each.startswith("certsync-") for each in seen.names_in("/etc/nginx/sites-available"))
    yield step.command("nginx no longer serves the site", "no_site", needed=ours)
    yield step.command(
        "Key and certificate are gone",
        f"rm -rf {ARCHIVE} {LIVE} && rmdir --ignore-fail-on-non-empty {receiver.HOME}",
        needed=seen.has(ARCHIVE) or seen.has(LIVE),
    )
    yield step.absent(seen, "No pages of ours", "/var/lib/certsync-site")

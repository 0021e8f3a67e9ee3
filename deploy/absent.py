"""What is taken away again: from a backend that leaves, an issuer that is one no more, everywhere.

Each function takes one thing away, whole, and does nothing where it is not there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pyinfra import host
from pyinfra.api import Host, State, deploy, operation
from pyinfra.operations import files, server

from certsync import receiver, replication
from certsync.fleet import Fleet
from certsync.options import SiteKind
from deploy import issuer, renewal, replica
from deploy.backend import PROGRAM, TICKETS_UNIT
from deploy.facts import Lines
from deploy.operations import Commands, failing, ran, ran_when

PROGRAMS = "/usr/local/lib/certsync"
SERVED = "/etc/certsync/archive /etc/certsync/live"
VERIFY = "certsync-verify.service"

LAST_CONNECTIONS = """\
end=$(($(date +%s) + {seconds}))
while [ "$(date +%s)" -lt "$end" ]; do
  ss -Htn state established '( sport = :443 or sport = :80 or sport = :{port} )' |
    grep -v -e ' 127\\.' -e ' \\[::1\\]' -e ' \\[::ffff:127\\.' > /dev/null || break
  sleep 0.2
done
exit 0"""
"""Wait until nobody is connected any more, or so long. Seen here, it counts for every balancer and
each of its processes, the ones from before a reload too."""

NO_SITE = """\
set -e
cd /etc/nginx
rm -f sites-enabled/certsync-* snippets/certsync-challenge.conf conf.d/certsync-*.conf
for lineage in /etc/certsync/live/*; do rm -f "snippets/ssl-${lineage##*/}.conf"; done
if [ -n "$(ls sites-enabled conf.d/*.conf 2>/dev/null | grep -v ':$')" ]; then
  nginx -t -q
  systemctl reload nginx
else
  # The requests it is answering are answered to their end.
  if systemctl is-active -q nginx; then
    nginx -s quit
    for try in $(seq 150); do systemctl is-active -q nginx || break; sleep 0.2; done
  fi
  systemctl disable -q --now nginx
fi
rm -f sites-available/certsync-*"""
"""The file by which it is known to be unfinished goes last."""

TICKET_FILES = "/etc/nginx/conf.d/certsync-tickets.conf /etc/systemd/system/{unit} {keys}"
NO_TICKETS = """\
set -e
rm -f /etc/nginx/conf.d/certsync-tickets.conf
! systemctl is-active -q nginx || nginx -s reload
systemctl disable -q {unit} 2>/dev/null || :
rm -f /etc/systemd/system/{unit}
systemctl daemon-reload
rm -rf {keys}"""
"""The keys go last: until nginx has read a configuration without them, it needs them to start."""

PLACEHOLDER_LIVE = """\
set -e
link=/etc/certsync/live/{lineage}
ln -sfn ../archive/{lineage}/0000 "$link.new" && mv -T "$link.new" "$link"
! systemctl is-active -q nginx || nginx -s reload
find /etc/certsync/archive/{lineage} -mindepth 1 -maxdepth 1 ! -name 0000 -exec rm -rf {{}} +"""


def _there(script: str) -> bool:
    return host.get_fact(Lines, script=f"{script} >/dev/null && echo yes") == ["yes"]


@operation()
def taken_over(state: State, other: Host) -> Commands:
    """Go no further on a host unless the new issuer has come through so far."""
    if other not in state.active_hosts:
        yield failing(f"{other.name} has not taken over: nothing more is changed here")


@operation()
def let_go(state: State, others: Sequence[Host]) -> Commands:
    """Go no further where a backend leaves, unless the others know it no more.

    A balancer may send it connections still, or the issuer a key.
    """
    if left := [each.name for each in others if each not in state.active_hosts]:
        yield failing(f"{', '.join(left)} did not let it go: nothing is changed here")


@deploy("Issuer: no more runs")
def runs() -> None:
    """Have nothing start a renewal any more."""
    files.file(name="No renewal from cron", path=renewal.CRON, present=False)
    renewal.no_timer(name="No renewal from a timer")


@deploy("Issuer: no more")
def issuing() -> None:
    """Take away all that makes a host the issuer: accounts, push key, state, certsync itself."""
    # What a killed run has left there is readable for a group whose number is given away again.
    for name, path in (
        ("No generation on its way", str(replication.RUNTIME)),
        ("No rehearsal", "/run/certsync-rehearsal"),
    ):
        files.directory(name=name, path=path, present=False)
    server.user(name="No pushing user", user=issuer.USER, present=False)
    for name, path in (
        ("No push key", issuer.PUSH),
        ("No accounts", f"{issuer.STORE.root}/accounts"),
        ("No open orders", f"{issuer.STORE.root}/pending"),
        ("No state", str(issuer.STORE.state)),
        ("No certsync", issuer.OPT),
    ):
        files.directory(name=name, path=path, present=False)
    # The marker last: with it a run that was cut off is known to be unfinished.
    for name, path in (
        ("No command", "/usr/local/bin/certsync"),
        ("Nothing that starts a run", renewal.PROGRAM),
        ("No rendered fleet", str(issuer.STORE.fleet_file)),
        ("No note where it came from", str(issuer.STORE.origin)),
        ("No list of machines", f"{issuer.STORE.root}/machines"),
        ("No list of who has left", str(issuer.STORE.left)),
        ("No roots of the CA's HTTPS", str(issuer.STORE.directory_bundle)),
        ("No roots of issued certificates", str(issuer.STORE.roots)),
        ("No keys of people's", str(issuer.STORE.binding_key)),
        ("No addresses of people's", str(issuer.STORE.notify_urls)),
        ("No marker of the issuer", str(issuer.STORE.marker)),
    ):
        if path == "/usr/local/bin/certsync":
            files.link(name=name, path=path, present=False)
        else:
            files.file(name=name, path=path, present=False)


@deploy("Replicas: no more pushes")
def access() -> None:
    """Let nobody push any more: the key line first, then the user and what it may do."""
    files.file(name="No push key lets in", path=replica.KEYS, present=False)
    files.file(name="No sudo rule", path="/etc/sudoers.d/certsync-receive", present=False)
    server.user(name="No receiving user", user=replica.USER, present=False)
    files.directory(name="No inbox", path=replica.HOME, present=False)
    tickets_inbox()
    for name in ("gate", "rsyncd.conf"):
        files.file(name=f"No {name}", path=f"{PROGRAMS}/{name}", present=False)


@deploy("Replicas: no more session ticket keys")
def tickets_inbox() -> None:
    """Take away what session ticket keys come in by."""
    files.file(name="No inbox of session ticket keys, at boot", path=replica.TMPFILES,
               present=False)  # fmt: skip
    inbox = str(receiver.TICKETS_INBOX.parent)
    files.directory(name="No inbox of session ticket keys", path=inbox, present=False)


@deploy("Backends: no more shared session tickets")
def tickets() -> None:
    """Have nginx use keys that it makes itself, and take away those that were shared."""
    names = {"unit": TICKETS_UNIT, "keys": str(receiver.TICKETS)}
    ran(
        name="No shared session ticket keys",
        command=NO_TICKETS.format(**names),
        unless=f"! ls -d {TICKET_FILES.format(**names)} 2>/dev/null | grep -q .",
    )


@deploy("Backends: no more certsync")
def programs() -> None:
    """Take away the receiver and the check before nginx starts; nginx starts without it."""
    ran(
        name="No verification at boot",
        command=f"systemctl disable -q {VERIFY}",
        unless=f"! systemctl is-enabled -q {VERIFY}",
    )
    unit = files.file(name="No unit of it", path=f"/etc/systemd/system/{VERIFY}", present=False)
    ran_when(
        name="systemd forgets it", command="systemctl daemon-reload", needed=lambda: unit.changed
    )
    files.file(name="No receiver", path=PROGRAM, present=False)
    files.directory(name="No folder of the programs", path=PROGRAMS, present=False)
    files.directory(name="No staging", path=f"{receiver.HOME}/staging", present=False)


@deploy("Backend: last connections")
def connections(fleet: Fleet, seconds: int) -> None:
    """Wait until nobody is connected to nginx any more."""
    ran(
        name="Last connections end",
        command=LAST_CONNECTIONS.format(seconds=seconds, port=fleet.balancing.proxy_port),
        unless="! systemctl is-active -q nginx",
    )


@deploy("Backend: no more site")
def site(fleet: Fleet) -> None:
    """Have nginx serve our site no more, and key and certificate gone from the disk."""
    if any(each.site.kind is SiteKind.UNMANAGED for each in fleet.lineages):
        # Somebody else's sites name the live link, and nginx would not start without it.
        for each in fleet.lineages:
            lineage = shlex.quote(each.lineage)
            archive = f"/etc/certsync/archive/{lineage}"
            ran(
                name="Placeholder instead of key and certificate",
                command=PLACEHOLDER_LIVE.format(lineage=lineage),
                unless=f'! test -d {archive} || test "$(ls {archive})" = 0000',
            )
        return
    ran(
        name="nginx serves the site no more",
        command=NO_SITE,
        unless="! ls /etc/nginx/sites-available/certsync-* 2>/dev/null | grep -q .",
    )
    ran(
        name="Key and certificate are gone",
        command=f"rm -rf {SERVED} && rmdir --ignore-fail-on-non-empty /etc/certsync",
        unless=f"! ls {SERVED} 2>/dev/null | grep -q .",
    )
    files.directory(name="No pages of ours", path="/var/lib/certsync-site", present=False)

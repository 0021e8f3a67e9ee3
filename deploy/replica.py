"""Every replica: the unprivileged user whose one key may push a certificate, and nothing else."""

from __future__ import annotations

import re
import threading
from typing import Any

from pyinfra.api import deploy
from pyinfra.operations import files, server

from certsync import receiver, templates
from certsync.errors import HostError
from certsync.fleet import Fleet
from deploy.backend import PROGRAM
from deploy.facts import Lines, Text
from deploy.operations import ran, sudo_rule, written

GATE = "/usr/local/lib/certsync/gate"
HOME = str(receiver.INBOX.parent)
TMPFILES = "/etc/tmpfiles.d/certsync.conf"
KEYS = f"{HOME}/.ssh/authorized_keys"
USER = receiver.RECEIVING_USER

PUSH_KEY = "/var/lib/certsync-push/id_ed25519.pub"
ONE_KEY = re.compile(
    r"(?P<key>ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43})( [^\x00-\x1f\x7f]*)?"
)
"""One Ed25519 key as RFC 8709, section 4 encodes it, and a comment."""

HOST_KEY = re.compile(
    r"(?P<key>(sk-)?(ssh|ecdsa)-[a-z0-9@.-]{1,60} AAAA[A-Za-z0-9+/]{1,4096}={0,2})( .*)?"
)
"""A line of a public key file: its type, the key in base64 that begins with the length of the type
in four bytes (RFC 4253, section 6.6), a comment."""

ASKING = threading.Lock()
KNOWN: dict[str, str] = {}
"""Push keys that this run has read, by the issuer's name."""


@deploy("Replicas: receiving user")
def configure(fleet: Fleet, issuer: Any) -> None:
    """Have the user, the gate its key is forced through, and the sudo rule for the receiver.

    ``issuer`` is pyinfra's host, asked for the push key when it is there.
    """
    server.user(
        name="Receiving user", user=USER, system=True, home=HOME, shell="/bin/sh",
        ensure_home=False,
    )  # fmt: skip
    for name, path in (("Home", HOME), ("SSH folder", f"{HOME}/.ssh")):
        files.directory(name=f"{name}, root's", path=path, user="root", group="root", mode="755")
    files.directory(name="Inbox", path=str(receiver.INBOX), user=USER, group=USER, mode="700")
    for name in ("gate", "rsyncd.conf"):
        text = (templates.road() / "templates/replica" / name).read_text()
        mode = "755" if name == "gate" else "644"
        written(name=name, path=f"/usr/local/lib/certsync/{name}", content=text, mode=mode)
    if fleet.share_tickets:
        _tickets_inbox()
    rule = f'# {templates.HEADER}\n{USER} ALL=(root) NOPASSWD: {PROGRAM} ""\n'
    sudo_rule(name="Sudo rule", path="/etc/sudoers.d/certsync-receive", rule=rule)
    written(
        name="The issuer's push key",
        path=KEYS,
        content=lambda: key_line(fleet, push_key(issuer)),
    )


def _tickets_inbox() -> None:
    text = (templates.road() / "templates/replica/tmpfiles.conf").read_text()
    written(name="Inbox of session ticket keys, at boot", path=TMPFILES, content=text)
    ran(
        name="Inbox of session ticket keys",
        command=f"systemd-tmpfiles --create {TMPFILES}",
        unless=f"test -d {receiver.TICKETS_INBOX}",
    )


def push_key(issuer: Any) -> str:
    """Return the issuer's public push key; empty if this run has not reached it, or failed there.

    The key that lets somebody in is then left as it is.
    """
    if not issuer.connected or issuer not in issuer.state.active_hosts:
        return ""
    # Every replica asks at the same time, and sshd takes ten sessions a connection (MaxSessions).
    with ASKING:
        if not KNOWN.get(issuer.name):
            KNOWN[issuer.name] = str(issuer.get_fact(Text, path=PUSH_KEY)).strip()
        return KNOWN[issuer.name]


def key_line(fleet: Fleet, key: str) -> str:
    """Return the file that lets the push key in, from the issuer's address, to the gate alone.

    ``key`` is what the issuer's file says; its comment is left out. Empty: nothing to write.

    Raises:
        HostError: it is not exactly one key. A second line would be let in without restrictions.
    """
    if not key:
        return ""
    one = ONE_KEY.fullmatch(key)
    if one is None:
        raise HostError(
            f"what {fleet.issuer_name} gives as its push key, {PUSH_KEY}, is not one ssh-ed25519 "
            "key; the key that is let in here stays",
            f"check who changed it; on {fleet.issuer_name}, `ssh-keygen -y -f "
            f"{PUSH_KEY.removesuffix('.pub')}` prints what belongs there",
        )
    source = fleet.issuer.private_address
    return f'# {templates.HEADER}\nrestrict,from="{source}",command="{GATE}" {one["key"]}\n'


def host_keys(replica: Any) -> list[str]:
    """Return a host's public SSH keys, `type base64`, read over our own authenticated connection.

    What else it prints is left out.
    """
    lines = replica.get_fact(Lines, script="cat /etc/ssh/ssh_host_*_key.pub")
    return [found["key"] for line in lines if (found := HOST_KEY.fullmatch(line))]

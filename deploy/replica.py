"""Every replica: an unprivileged user whose one key may push a certificate and nothing else."""

from __future__ import annotations

import re

from pyinfra.api import Host

from certsync.model.epoch import Epoch
from certsync.model.errors import HostError
from certsync.model.fleet import Fleet
from certsync.model.paths import PROGRAMS, RECEIVER
from certsync.operator.deployment import operations
from certsync.operator.hosts import epochs
from certsync.operator.hosts.survey import Survey
from certsync.operator.rendering import templates
from certsync.programs import receiver
from deploy import fellows, step
from deploy.step import Steps

FORCED_COMMAND = f"{PROGRAMS}/forced-command"
FORMER_NAME = f"{PROGRAMS}/gate"
"""Its name in an earlier version."""

HOME = str(receiver.INBOX.parent)
TMPFILES = "/etc/tmpfiles.d/certsync.conf"
KEYS = f"{HOME}/.ssh/authorized_keys"
SUDO_RULE = "/etc/sudoers.d/certsync-receive"
USER = receiver.RECEIVING_USER

PUSH_KEY = "/var/lib/certsync-push/id_ed25519.pub"
ONE_KEY = re.compile(
    r"(?P<key>ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43})( [^\x00-\x1f\x7f]*)?"
)
"""One Ed25519 key as RFC 8709, section 4 encodes it, and a comment."""


def prepare(fleet: Fleet, seen: Survey) -> Steps:
    """Set up the user, the one command its key may run, and the sudo rule for the receiver."""
    yield step.user(seen, "Receiving user", USER, home=HOME, shell="/bin/sh")
    yield step.directory(seen, "Home, owned by root", HOME)
    yield step.directory(seen, "SSH folder, owned by root", f"{HOME}/.ssh")
    inbox = str(receiver.INBOX)
    yield step.directory(seen, "Inbox", inbox, owner=USER, group=USER, mode="700")
    for name, mode in (("forced-command", "755"), ("rsyncd.conf", "644")):
        text = (templates.road() / "templates/replica" / name).read_text()
        yield step.file(seen, name, f"{PROGRAMS}/{name}", text, mode=mode)
    if fleet.share_tickets:
        yield from _tickets_inbox(seen)
    yield _sudo_rule(seen)


def admitted(fleet: Fleet, issuer: Host, seen: Survey) -> Steps:
    """Accept the issuer's push key, from its survey in this run."""
    yield from let_in(fleet, fellows.of_issuer(issuer), seen)


def let_in(fleet: Fleet, issuer: Survey, seen: Survey) -> Steps:
    """Accept the issuer's push key; without a survey of the issuer, keep the accepted one."""
    text = issuer.text(PUSH_KEY).strip()
    of_issuer = epochs.of_issuer(fleet, issuer)
    yield step.file(seen, operations.ACCEPTED_KEY, KEYS, lambda: key_line(fleet, text, of_issuer))
    if text and seen.has(FORMER_NAME):
        # Only now: the previous key line refers to it.
        yield step.absent(seen, "No forced command of an earlier version", FORMER_NAME)


def _tickets_inbox(seen: Survey) -> Steps:
    text = (templates.road() / "templates/replica/tmpfiles.conf").read_text()
    yield step.file(seen, "Inbox of session ticket keys, at boot", TMPFILES, text)
    yield step.command(
        operations.TICKETS_INBOX,
        f"systemd-tmpfiles --create {TMPFILES}",
        needed=not seen.has(str(receiver.TICKETS_INBOX)),
    )


def _sudo_rule(seen: Survey) -> step.Step:
    rule = f'# {templates.HEADER}\n{USER} ALL=(root) NOPASSWD: {RECEIVER} ""\n'
    if seen.text(SUDO_RULE) == rule:
        return step.Step("Sudo rule")
    changes = step.changed(seen, SUDO_RULE, rule)
    return step.Step("Sudo rule", f"sudo_rule file {SUDO_RULE}", {"file": rule}, changes)


def key_line(fleet: Fleet, key: str, epoch: Epoch) -> str:
    """Return the authorized_keys that accepts the push key from the issuer, for one command.

    ``key`` is the content of the issuer's file; its comment is dropped. Empty: nothing to write.
    ``epoch`` is the issuer's.

    Raises:
        HostError: it is not exactly one key. A second line would be accepted without restrictions.
    """
    if not key:
        return ""
    one = ONE_KEY.fullmatch(key)
    if one is None:
        raise HostError(
            f"the push key of {fleet.issuer_name}, {PUSH_KEY}, is not exactly one ssh-ed25519 "
            "key; the key accepted so far is kept",
            f"find out who changed it; on {fleet.issuer_name}, `ssh-keygen -y -f "
            f"{PUSH_KEY.removesuffix('.pub')}` prints the right content",
        )
    source, run = fleet.issuer.private_address, FORCED_COMMAND
    options = f'restrict,from="{source}",command="{run}"'
    return f"# {templates.HEADER}\n# {epoch}\n{options} {one['key']}\n"

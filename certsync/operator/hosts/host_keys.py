"""The SSH host keys of the machines: which ones to pin, and which machines have the same. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from certsync.model.finding import Finding
from certsync.operator.hosts.survey import Survey

HOST_KEY = re.compile(
    r"(?P<key>(sk-)?(ssh|ecdsa)-[a-z0-9@.-]{1,60} AAAA[A-Za-z0-9+/]{1,4096}={0,2})( .*)?"
)
"""A line of a public key file: its type, the key in base64 that begins with the length of the type
in four bytes (RFC 4253, section 6.6), a comment."""


SAME = "it has the same SSH host keys as {}, so each of them can pass for the other"
NEW_KEYS = (
    "make new ones there: `rm /etc/ssh/ssh_host_*_key*; ssh-keygen -A; systemctl restart ssh`; "
    "then accept the new key by connecting once, and run `certsync deploy FLEET`"
)


def host_keys(seen: Survey) -> list[str]:
    """Return a host's public SSH keys, `type base64`, read over our own authenticated connection.

    Anything else in their files is dropped.
    """
    texts = [
        seen.text(f"/etc/ssh/{name}")
        for name in seen.names_in("/etc/ssh")
        if re.fullmatch("ssh_host_.*_key.pub", name)
    ]
    lines = [line for text in texts for line in text.splitlines()]
    return [found["key"] for line in lines if (found := HOST_KEY.fullmatch(line))]


def shared(surveys: Mapping[str, Survey]) -> list[Finding]:
    """Return notes on machines that were copied from one another with their host keys.

    ``surveys`` are those of the machines that were reached, by name.
    """
    owners: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, seen in surveys.items():
        for key in host_keys(seen):
            if owners.setdefault(key, name) != name:
                found[name] = owners[key]
    return [
        Finding(name, SAME.format(owner), NEW_KEYS, stops=False) for name, owner in found.items()
    ]

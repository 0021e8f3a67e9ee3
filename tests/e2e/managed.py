"""What a deploy manages on hosts: the files whose whole text is its own to decide.

What certsync's programs make there by themselves, generations, keys and state, is not among them.
"""

from __future__ import annotations

from lab import Machine

FILES = (
    "etc/certsync/fleet.json",
    "etc/certsync/issuer",
    "etc/certsync/left",
    "etc/certsync/machines",
    "etc/certsync/*.pem",
    "etc/cron.d/certsync",
    "etc/haproxy/certsync-roots.pem",
    "etc/haproxy/haproxy.cfg",
    "etc/nginx/conf.d/certsync-*",
    "etc/nginx/sites-available/certsync-*",
    "etc/nginx/snippets/certsync-*",
    "etc/nginx/snippets/ssl-*",
    "etc/sudoers.d/certsync-receive",
    "etc/systemd/system/certsync-*.service",
    "etc/systemd/system/certsync-*.timer",
    "etc/systemd/system/haproxy.service.d/certsync.conf",
    "etc/tmpfiles.d/certsync.conf",
    "usr/local/lib/certsync/*",
    "var/lib/certsync-push/known_hosts",
    "var/lib/certsync-receive/.ssh/authorized_keys",
    "var/lib/certsync-site/*",
)
"""Patterns below a host's root."""


def texts(machine: Machine) -> dict[str, bytes]:
    """Return a host's managed files, read from outside, by their paths."""
    found = {}
    for pattern in FILES:
        for path in machine.root.glob(pattern):
            if path.is_file() and not path.is_symlink():
                found[f"/{path.relative_to(machine.root)}"] = path.read_bytes()
    return found

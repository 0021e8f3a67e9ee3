"""Our paths, users and units on other machines, shared by all sides.

What a standalone program needs is defined in that program; it imports nothing of ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from certsync.programs import receiver

PROGRAMS = "/usr/local/lib/certsync"
RECEIVER = f"{PROGRAMS}/receiver"
UNITS = "/etc/systemd/system"
VERIFY_UNIT = "certsync-verify.service"
TICKETS_UNIT = "certsync-tickets.service"

OPT = "/opt/certsync"
CURRENT = f"{OPT}/current"
"""The link to the release that an issuer runs."""

CERTSYNC = f"{CURRENT}/bin/certsync"

PUSHING_USER = "certsync-push"
PUSH_HOME = Path("/var/lib/certsync-push")
PUSH_RUNTIME = Path("/run/certsync-push")
REHEARSAL = Path("/run/certsync-rehearsal")


@dataclass(frozen=True)
class IssuerPaths:
    """Where everything is on the issuer. Only root can read ``root``."""

    root: Path = receiver.HOME
    state: Path = Path("/var/lib/certsync")

    @property
    def machines(self) -> Path:
        """The fleet's machines, one per line: a name, and `balancer` behind a balancer's."""
        return self.root / "machines"

    @property
    def fleet_file(self) -> Path:
        """The rendered fleet."""
        return self.root / "fleet.json"

    @property
    def origin(self) -> Path:
        """Which fleet file it was rendered from: SHA-256, when and by whom."""
        return self.root / "fleet-origin.json"

    @property
    def marker(self) -> Path:
        """The file that marks this host as the issuer."""
        return self.root / "issuer"

    @property
    def left(self) -> Path:
        """Machines that have left the fleet, one name per line."""
        return self.root / "left"

    @property
    def directory_bundle(self) -> Path:
        """Roots that verify the CA's own HTTPS, if the fleet file names any."""
        return self.root / "directory-bundle.pem"

    @property
    def roots(self) -> Path:
        """Roots that verify issued certificates, if the fleet file names any."""
        return self.root / "roots.pem"

    @property
    def webroot(self) -> Path:
        """The folder from which nginx serves challenge files."""
        return self.state / "webroot"

    @property
    def state_file(self) -> Path:
        """What is remembered between runs."""
        return self.state / "state.json"

    @property
    def binding_key(self) -> Path:
        """The secret of an external account binding, installed by hand."""
        return self.root / "eab-hmac-key"

    @property
    def notify_urls(self) -> Path:
        """Where messages go: one URL per line, each a secret; `certsync notify --set` writes it."""
        return self.root / "notify-urls"

    def account(self, directory: str) -> Path:
        """Return the folder of the account at a CA."""
        return self.root / "accounts" / hashlib.sha256(directory.encode()).hexdigest()[:16]

    def pending(self, lineage: str) -> Path:
        """Return the folder of an unfinished order."""
        return self.root / "pending" / lineage

    def archive(self, lineage: str) -> Path:
        """Return the folder of all generations."""
        return self.root / "archive" / lineage

    def live(self, lineage: str) -> Path:
        """Return the link to the current generation."""
        return self.root / "live" / lineage

    def withdrawn_file(self, lineage: str) -> Path:
        """Return the record of what was rolled back."""
        return self.state / f"withdrawn-{lineage}.json"

    def refused_file(self, lineage: str) -> Path:
        """Return the record of what the issuer's own receiver refused."""
        return self.state / f"refused-{lineage}.json"

    def compromised_file(self, lineage: str) -> Path:
        """Return the record of compromised keys."""
        return self.state / f"compromised-{lineage}.json"

    def issued_file(self, lineage: str) -> Path:
        """Return the record of what was issued and has not expired; it has no private key."""
        return self.state / f"issued-{lineage}.json"

    def fence_file(self, lineage: str) -> Path:
        """Return the record of which replicas accepted or refused the push key."""
        return self.state / f"fence-{lineage}.json"

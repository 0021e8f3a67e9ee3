"""The names of the phases and operations in deploy/.

deploy/ uses them for its operations; the operator's side reports and looks up outcomes by them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Phase:
    """A part of a run. It starts on a host once the previous phase has ended on all hosts."""

    number: int
    of: int
    title: str

    def __str__(self) -> str:
        """Return its title for people, `1 of 6: packages`."""
        return f"{self.number} of {self.of}: {self.title}"


PACKAGES = Phase(1, 6, "packages")
NEW_ISSUER = Phase(1, 6, "the new issuer")
CONFIGURATION = Phase(2, 6, "nginx on every backend, port 80 on the balancer")
ADMISSION = Phase(3, 6, "replicas accept the issuer's pushes")
CERTIFICATE = Phase(4, 6, "the certificate")
REPLICATION = Phase(5, 6, "replication and proof")
PASSING = Phase(6, 6, "passthrough, for what has been proven")

OUT_OF_THE_POOLS = Phase(2, 6, "out of the pools")
"""A phase of a removal."""

GO_ON = "go on"
"""What a run is told, on a line, before each of its phases."""

ORDER = "Order the certificate"
TAKE_OVER = "Take over the certificate"
REPLICATE = "Replicate the certificate"
SHARE_TICKETS = "Share session ticket keys"
REPLACE_KEYS = "Replace the keys"

PASSTHROUGH = "Passthrough"
HAPROXY = "haproxy.cfg"
DROP_OUTGOING = "Off what is about to go"
NGINX = "nginx"
PLACEHOLDER = "Placeholder certificate, generation 0000"
TICKET_KEYS = "Session ticket keys"
TICKETS_INBOX = "Inbox of session ticket keys"
PUSH_KEY = "Push key"
ACCEPTED_KEY = "The issuer's push key"
INSTALLED = "certsync in its own virtual environment"
RENDERED_FLEET = "Rendered fleet"

ISSUER_VERBS = {
    ORDER: "issue",
    REPLICATE: "replicate",
    SHARE_TICKETS: "tickets",
    TAKE_OVER: "take-over",
}
"""The issuer command that each operation runs."""

"""The issuer's own push key: what is offered to no replica is refused by none."""

from __future__ import annotations

from certsync.model.paths import PUSH_HOME, PUSHING_USER
from certsync.system import process, ssh

BRING_KEY = "run `certsync deploy FLEET`"


def finding() -> str:
    """Return why this issuer's own push key cannot be used, and what to do; empty: it can."""
    path = PUSH_HOME / "id_ed25519"
    if not path.exists():
        return f"this issuer's push key {path} is missing: {BRING_KEY}"
    argv = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
    done = process.run(argv, seconds=ssh.CONNECT_SECONDS, user=PUSHING_USER)
    if done.status == 0:
        return ""
    return f"this issuer's push key {path} cannot be read ({done.error_summary}): {BRING_KEY}"

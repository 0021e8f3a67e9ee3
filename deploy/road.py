"""The certificate's own road: ordered, carried, proven by certsync on the issuer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation

from deploy.facts import Answer

CERTSYNC = "/opt/certsync/current/bin/certsync"


@deploy("Issuer: certificate")
def issue() -> None:
    """Order a certificate, if one is due."""
    issuer_command(name="Order the certificate", verb="issue")


@deploy("Issuer: replicate and prove")
def replicate() -> None:
    """Bring the certificate to every backend, and prove that each one serves it."""
    issuer_command(name="Replicate the certificate", verb="replicate")


@operation()
def issuer_command(verb: str) -> Generator[Any, None, None]:
    """Run one of certsync's commands on the issuer, unless it says that nothing is to be done."""
    answer = host.get_fact(Answer, verb=f"{verb} --dry-run")
    if answer and not answer["steps"]:
        host.noop(f"certsync {verb}: nothing to do")
        return
    token = os.environ.get("CERTSYNC_LOCK_TOKEN", "")
    yield StringCommand(f"{CERTSYNC} {verb} --lock-token {shlex.quote(token)}")

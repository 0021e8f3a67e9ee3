"""The gate: members are admitted and the rule is turned on by proof, and by nothing else."""

from __future__ import annotations

from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation

from certsync.fleet import Fleet
from certsync.gate import drained
from certsync.proof import Proof
from deploy.balancer import CONFIGURATION, SOCKET, configuration
from deploy.facts import Answer, Lines, Text
from deploy.operations import Commands, haproxy_configured


@deploy("Balancers: passthrough")
def gate(fleet: Fleet, issuer: Any) -> None:
    """Have the members that the issuer has just proven, and the rule if there is one."""
    haproxy_configured(
        name="Passthrough", content=lambda: configuration(fleet, proofs(issuer), last=True)
    )
    members_ready(name="Members take connections")


@operation()
def members_ready() -> Commands:
    """Have no admitted member drained, as one is after a removal that was given up."""
    states = host.get_fact(Lines, script=f"echo show servers state | socat -t 5 - {SOCKET}")
    left = drained(host.get_fact(Text, path=CONFIGURATION), "\n".join(states))
    if not left:
        host.noop("no member is drained")
    for member in left:
        yield StringCommand(
            f"echo 'set server {member} state ready' | socat -t 5 - {SOCKET} > /dev/null"
        )


def proofs(issuer: Any) -> dict[str, Proof]:
    """Return what the issuer sees each backend serve now; nothing if it cannot be asked."""
    if not issuer.connected:
        return {}
    answer = issuer.get_fact(Answer, verb="prove")
    found = [Proof.from_json(each) for each in answer.get("proofs", [])]
    return {proof.name: proof for proof in found}

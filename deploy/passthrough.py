"""The gate: members are admitted and the rule is turned on by proof, and by nothing else."""

from __future__ import annotations

from typing import Any

from pyinfra.api import deploy

from certsync.fleet import Fleet
from certsync.proof import Proof
from deploy.balancer import configuration
from deploy.facts import Answer
from deploy.operations import haproxy_configured


@deploy("Balancers: passthrough")
def gate(fleet: Fleet, issuer: Any) -> None:
    """Have the members that the issuer has just proven, and the rule if there is one."""
    haproxy_configured(
        name="Passthrough", content=lambda: configuration(fleet, proofs(issuer), last=True)
    )


def proofs(issuer: Any) -> dict[str, Proof]:
    """Return what the issuer sees each backend serve now; nothing if it cannot be asked."""
    if not issuer.connected:
        return {}
    answer = issuer.get_fact(Answer, verb="prove")
    found = [Proof.from_json(each) for each in answer.get("proofs", [])]
    return {proof.name: proof for proof in found}

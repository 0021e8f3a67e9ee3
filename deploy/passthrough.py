"""The gate: members are admitted and the rule is turned on by proof, and by nothing else."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation

from certsync import templates
from certsync.fleet import Fleet, Machine
from certsync.gate import Seen, drained, knocks, proofs_from, proxy_port
from certsync.proof import Proof
from deploy.balancer import CONFIGURATION, SOCKET, configuration
from deploy.facts import Answer, Lines, Text
from deploy.operations import Commands, haproxy_configured


@deploy("Balancers: passthrough")
def gate(fleet: Fleet, machine: Machine, issuer: Any) -> None:
    """Have the members that the issuer has just proven, and the rule if there is one."""

    def content() -> str:
        seen = Seen(proofs(fleet, issuer), listening(fleet))
        return configuration(fleet, machine, seen, last=True)

    haproxy_configured(name="Passthrough", content=content)
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


def proofs(fleet: Fleet, issuer: Any) -> dict[str, dict[str, Proof]]:
    """Return what the issuer sees each backend serve now; nothing if it cannot be asked."""
    if not issuer.connected:
        return {}
    return proofs_from(fleet, issuer.get_fact(Answer, verb="prove"))


def listening(fleet: Fleet) -> list[str]:
    """Return the backends that answer this balancer on their port for the PROXY protocol."""
    if not proxy_port(fleet):
        return []
    program = (templates.PACKAGE / "knock.py").read_text()
    words = ["python3", "-IS", "-c", program, json.dumps(knocks(fleet))]
    heard = host.get_fact(Lines, script=shlex.join(words))
    return list(heard)

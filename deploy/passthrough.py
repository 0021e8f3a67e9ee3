"""The gate: members are admitted and the rule is turned on by proof, and by nothing else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from pyinfra import host
from pyinfra.api import FactBase, Host

from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof
from certsync.operator.balancer.gate import Seen, decide, proxy_port, proxy_port_questions, read
from certsync.operator.balancer.server_states import drained
from certsync.operator.hosts.survey import Survey
from certsync.programs import text_of
from deploy import answers, step
from deploy.balancer import CONFIGURATION, SOCKET, Haproxy, tell_gates
from deploy.step import Steps


class Listening(FactBase[list[str]]):
    """The backends that answer this balancer on their PROXY protocol port."""

    def command(self, questions: str) -> str:
        """Return the command; ``questions`` is JSON, see `proxy_port_check`."""
        program = text_of("proxy_port_check.py")
        words = shlex.join(["python3", "-IS", "-c", program, questions])
        return f"( {words} ) 2>/dev/null || :"

    def process(self, output: list[str]) -> list[str]:
        """Return their names."""
        return output

    @staticmethod
    def default() -> list[str]:
        """Return no names."""
        return []


def gate(fleet: Fleet, machine: Machine, issuer: Host, seen: Survey) -> Steps:
    """Admit the members that the issuer has just proven, and set the rule if there are any."""
    proven = Seen(_proofs(fleet, issuer), _listening(fleet, seen))
    tell_gates(fleet, machine, seen, proven)
    balancer = Haproxy(fleet, machine, seen)
    wanted = decide(fleet, balancer.read(), proven)
    yield balancer.change(wanted)
    yield _members_ready(drained(fleet, wanted, seen.server_states))


def _members_ready(left: Sequence[str]) -> step.Step:
    """Undrain admitted members: an abandoned removal leaves one drained."""
    lines = [f"echo 'set server {each} state ready' | socat -t 5 - {SOCKET}" for each in left]
    script = " && ".join(f"{line} > /dev/null" for line in lines)
    return step.command("Members take connections", script, needed=bool(left))


def _proofs(fleet: Fleet, issuer: Host) -> Mapping[str, Mapping[str, Proof]]:
    """Return the issuer's fresh proofs; empty if it cannot be asked."""
    return answers.proven(issuer, fleet).proofs if issuer.connected else {}


def _listening(fleet: Fleet, seen: Survey) -> list[str]:
    """Return which backends, of those not using it yet, answer on their PROXY protocol port."""
    port = proxy_port(fleet)
    using = [name for name, at in read(seen.text(CONFIGURATION)).ports.items() if at == port]
    unknown = [each for each in proxy_port_questions(fleet) if each[0] not in using]
    if not port or not unknown:
        return []
    found: list[str] = host.get_fact(Listening, questions=json.dumps(unknown))
    return found

"""`certsync rehearse`: every step for real, against a test CA; nothing live is touched."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from certsync.model import paths, rehearsal
from certsync.model.errors import HostError
from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof
from certsync.model.rehearsal import Finding
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate, Seen
from certsync.operator.fleet_file import read_fleet
from certsync.operator.fleet_file.differences import undeployed
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.operator.rendering import overrides, templates
from certsync.programs import command
from certsync.system import ssh

Tell = Callable[[str], None]

SECONDS = 1200
"""Limit for the issuer's part: the CA has five minutes to validate, and five to sign."""

CONFIGURATION = "haproxy -c of what the next deploy would write"


def rehearse(path: Path, asked: str, tell: Tell) -> list[Finding]:
    """Return the results by host; ``asked`` is the staging CA's directory URL.

    Raises:
        FleetFileError: the fleet file has mistakes.
        CertsyncError: the CA is a production CA.
        HostError: the issuer cannot be reached, or the fleet has not been deployed.
        LockHeldError: another run is changing the fleet.
    """
    fleet = read_fleet(path)
    overrides.check(fleet, str(path))
    directory = rehearsal.directory(fleet.authority.directory, asked)
    deployed = issuer_side.rendered(fleet, fleet.issuer)
    if differing := undeployed(fleet, deployed, ()):
        tell(
            "note: the backends rehearse what is deployed; the fleet file differs in: "
            f"{', '.join(differing)}"
        )
    with fleet_lock.held(fleet, "rehearse") as lock:
        tell(f"rehearsing on {fleet.issuer_name}, with an order at {directory}")
        findings = _on_issuer(fleet, directory, lock.token)
        names = ", ".join(each.name for each in fleet.balancers)
        tell(
            f"testing what would be written on {names}" if names else "no balancer of ours to test"
        )
        proofs = _proofs(fleet)
        findings += [_on_balancer(fleet, machine, proofs) for machine in fleet.balancers]
    return findings


def _on_issuer(fleet: Fleet, directory: str, token: str) -> list[Finding]:
    words = f"rehearse-here --directory {shlex.quote(directory)} --lock-token {shlex.quote(token)}"
    asked = f"{paths.CERTSYNC} {words}"
    done = ssh.on(fleet.issuer, fleet.known_hosts, asked, seconds=SECONDS)
    try:
        return [Finding.from_json(each) for each in json.loads(done.stdout)["findings"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HostError(
            f"the rehearsal ended early: {done.error_summary}",
            "does the issuer have this version of certsync? `certsync deploy FLEET` installs it",
            host=fleet.issuer_name,
        ) from None


def _proofs(fleet: Fleet) -> Mapping[str, Mapping[str, Proof]]:
    return issuer_side.proven(fleet, fleet.issuer).proofs


def _on_balancer(
    fleet: Fleet, machine: Machine, proofs: Mapping[str, Mapping[str, Proof]]
) -> Finding:
    try:
        before = _gate(fleet, machine)
        decided = gate.decide(fleet, before, Seen(proofs))
        roots = fleet.authority.roots
        roots_sum = hashlib.sha256(Path(roots).read_bytes()).hexdigest() if roots else ""
        text = templates.haproxy(fleet, machine, decided, roots_sum=roots_sum)
        done = ssh.on(machine, fleet.known_hosts, command("try_haproxy.sh"), input=text)
    except HostError as error:
        return Finding(machine.name, CONFIGURATION, error.why)
    why = (done.error_summary or f"haproxy exited with {done.status}") if done.status else ""
    return Finding(machine.name, CONFIGURATION, why)


def _gate(fleet: Fleet, machine: Machine) -> Gate:
    done = ssh.on(machine, fleet.known_hosts, "cat /etc/haproxy/haproxy.cfg")
    if done.status != 0:
        raise HostError(done.error_summary, host=machine.name)
    return gate.read(done.stdout)

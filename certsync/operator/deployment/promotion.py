"""A backend that becomes the issuer: what is to be done, and what stands against it."""

from __future__ import annotations

import hashlib
import re
import shlex
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certsync.model import paths
from certsync.model.answers import Proven
from certsync.model.errors import (
    CertsyncError,
    HostError,
    RefusedError,
    SilentError,
    UnreachableError,
)
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.proof import Proof
from certsync.operator.change import Change
from certsync.operator.deployment.plan import HERE, FileChange, Step
from certsync.operator.deployment.request import KEPT, DeployRequest, Options
from certsync.operator.deployment.succession import (
    Holding,
    is_ordered_anew,
    objection_of_holdings,
    objection_of_proofs,
)
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.hosts import issuer_side
from certsync.operator.rendering.templates import bracketed
from certsync.programs import command
from certsync.system import parallel, ssh

FILE_PHASE = "at last: the fleet file"


MARKED = "test -f /etc/certsync/issuer && echo marked || :"


PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Succession:
    """One backend that follows another as the issuer."""

    file: FleetFile
    """With the new issuer."""

    fleet: Fleet
    before: Fleet
    """As the fleet file says."""

    old_is_dead: bool

    @property
    def old(self) -> Machine | None:
        """The issuer before; None: the fleet file names the new one already."""
        return None if self.before.issuer == self.fleet.issuer else self.before.issuer

    @property
    def request(self) -> DeployRequest:
        """What pyinfra is asked for: every backend but one that is dead."""
        dead = self.old.name if self.old and self.old_is_dead else ""
        names = [machine.name for machine in self.fleet.machines if machine.name != dead]
        options = Options(KEPT, promoting=True)
        return DeployRequest(self.file, options, tuple(names))

    def written(self) -> tuple[Step, FileChange] | None:
        """Return the last step, which writes the fleet file; None: it is written."""
        before, after = self.file.before.text, self.file.text
        if before == after:
            return None
        step = Step(FILE_PHASE, HERE, f'write issuer = "{self.fleet.issuer_name}" into {self.file}')
        return step, FileChange(HERE, str(self.file), before, after)


def succession(path: Path, name: str, *, old_is_dead: bool) -> Succession:
    """Return what is to be done, from the fleet file alone.

    Raises:
        FleetFileError: it has mistakes.
        CertsyncError: it has no such backend.
    """
    file = opened(path)
    before = file.fleet
    names = [machine.name for machine in before.backends]
    if name not in names:
        raise CertsyncError(f"{path} has no backend {name}", f"its backends are {', '.join(names)}")
    after = file.changing(Change(issuer=name))
    return Succession(after, after.fleet, before, old_is_dead)


def _if_dead(wanted: Succession, hint: str) -> str:
    command = f"certsync promote {shlex.quote(str(wanted.file))} {wanted.fleet.issuer_name}"
    return f"{hint} If it is gone for good: {command} --old-is-dead"


def _look(wanted: Succession) -> None:
    """Refuse a backend that cannot take over, before any change."""
    fleet, new = wanted.fleet, wanted.fleet.issuer
    for balancer in fleet.balancers:
        # It has to send challenges to the new issuer, and nobody else can tell it so.
        ssh.on(balancer, fleet.known_hosts, "true")
    _refuse_without_binding_key(fleet)
    if wanted.old and wanted.old_is_dead:
        _refuse_if_it_answers(wanted.old, fleet)
        objection = partial(_objection_by_holdings, wanted)
    else:
        objection = partial(_objection_by_proofs, fleet, _proven_by_issuer(wanted).proofs)
    for each in fleet.lineages:
        if why := objection(each):
            of = f"of {each.name}: " if fleet.has_several else ""
            raise RefusedError(
                f"{new.name} cannot become the issuer: {of}{why}; nothing was changed",
                "promote one that serves the current generation: certsync status shows who does",
            )


def _refuse_without_binding_key(fleet: Fleet) -> None:
    if not fleet.authority.eab_key_id:
        return
    done = ssh.on(fleet.issuer, fleet.known_hosts, "test -s /etc/certsync/eab-hmac-key")
    if done.status != 0:
        raise RefusedError(
            f"{fleet.issuer_name} has no /etc/certsync/eab-hmac-key, and the CA wants accounts "
            "bound; nothing was changed",
            "put the secret that the CA gave you there, root's alone (mode 600)",
        )


def _refuse_if_it_answers(old: Machine, fleet: Fleet) -> None:
    try:
        ssh.on(old, fleet.known_hosts, "true")
    except SilentError:
        return
    except UnreachableError as error:
        raise RefusedError(
            f"{error.message}, so it is not known to be dead; nothing was changed",
            f"{error.hint} Switch it off, or fix that, and then again",
        ) from None
    raise RefusedError(
        f"{old.name} answers over SSH, so it is not dead; nothing was changed",
        "leave out --old-is-dead, so that it hands its role over",
    )


def _proven_by_issuer(wanted: Succession) -> Proven:
    """Return what the issuer says: the old one, or the new one where it is that far."""
    fleet = wanted.fleet
    asked = _who_is_issuer(wanted)
    issuer_side.refuse_what_is_not_deployed(fleet, asked, ())
    # It has to give its account back, which one of before this release cannot.
    issuer_side.refuse_another_release(fleet, asked)
    seen = issuer_side.proven(fleet, asked)
    if seen.compromise:
        raise RefusedError(
            f"{asked.name} has not replaced compromised keys yet: {seen.compromise}; nothing "
            "was changed",
            "let its hourly run finish that, which says what stops it: certsync status shows it",
        )
    return seen


def _objection_by_proofs(
    fleet: Fleet, proofs: Mapping[str, Mapping[str, Proof]], lineage: Lineage
) -> str:
    """Return what the issuer's proofs, by lineage and backend, say against it, of one lineage."""
    if fleet.issuer not in fleet.members(lineage):
        return ""
    return objection_of_proofs(fleet.issuer_name, list(proofs.get(lineage.name, {}).values()))


def _objection_by_holdings(wanted: Succession, lineage: Lineage) -> str:
    """Return what the backends in reach say against it, of one lineage."""
    found, name = _holdings(wanted, lineage), wanted.fleet.issuer_name
    if name in found and is_ordered_anew(wanted.fleet, lineage, found[name].generation):
        return ""
    return objection_of_holdings(name, found)


def _who_is_issuer(wanted: Succession) -> Machine:
    """Return the one of the two that can say what is current.

    Raises:
        HostError: the old issuer cannot be reached.
    """
    fleet, old = wanted.fleet, wanted.old
    if old is None:
        return fleet.issuer
    try:
        marked = ssh.on(old, fleet.known_hosts, MARKED).stdout.strip()
        working = ssh.on(old, fleet.known_hosts, f"{paths.CERTSYNC} --version").status == 0
    except UnreachableError as error:
        raise HostError(error.why, _if_dead(wanted, error.hint), host=error.host) from None
    # One that has taken over half of the role knows the fleet as well.
    follows = not (marked and working) and _is_marked(fleet.issuer, fleet)
    return fleet.issuer if follows else old


def _is_marked(machine: Machine, fleet: Fleet) -> bool:
    return bool(ssh.on(machine, fleet.known_hosts, MARKED).stdout.strip())


def _holdings(wanted: Succession, lineage: Lineage) -> dict[str, Holding]:
    """Return what each backend in reach holds and serves of a lineage."""
    fleet = wanted.fleet

    def look(machine: Machine) -> Holding | None:
        # On the host itself: a firewall may keep everybody but the balancers from its port 443.
        address = bracketed(machine.private_address)
        script = command("held_and_served.sh", lineage.name, address)
        try:
            return held(ssh.on(machine, fleet.known_hosts, script).stdout)
        except HostError:
            return None

    alive = [machine for machine in fleet.backends if machine != wanted.old]
    found = dict(zip([each.name for each in alive], parallel.each(look, alive), strict=True))
    return {name: each for name, each in found.items() if each is not None}


def held(output: str) -> Holding:
    """Return what a backend holds and serves, from what was printed there."""
    number, _, rest = output.partition("held\n")
    own, _, shown = rest.partition("served\n")
    return Holding(number.strip(), _fingerprint(own), _fingerprint(shown))


def _fingerprint(text: str) -> str:
    found = PEM.search(text)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.group())).hexdigest() if found else ""

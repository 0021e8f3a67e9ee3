"""A backend that becomes the issuer: the change, and the reasons to refuse it."""

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

FILE_PHASE = "last: the fleet file"


MARKED = "test -f /etc/certsync/issuer && echo marked || :"


PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Succession:
    """One backend that replaces another as the issuer."""

    file: FleetFile
    """The fleet file with the new issuer."""

    fleet: Fleet
    before: Fleet
    """The fleet as the file says now."""

    old_is_dead: bool

    @property
    def old(self) -> Machine | None:
        """The old issuer; None: the fleet file already names the new one."""
        return None if self.before.issuer == self.fleet.issuer else self.before.issuer

    @property
    def request(self) -> DeployRequest:
        """The pyinfra run: all machines except a dead issuer."""
        dead = self.old.name if self.old and self.old_is_dead else ""
        names = [machine.name for machine in self.fleet.machines if machine.name != dead]
        options = Options(KEPT, promoting=True)
        return DeployRequest(self.file, options, tuple(names))

    def written(self) -> tuple[Step, FileChange] | None:
        """Return the last step, which writes the fleet file; None: already written."""
        before, after = self.file.before.text, self.file.text
        if before == after:
            return None
        step = Step(FILE_PHASE, HERE, f'set issuer = "{self.fleet.issuer_name}" in {self.file}')
        return step, FileChange(HERE, str(self.file), before, after)


def succession(path: Path, name: str, *, old_is_dead: bool) -> Succession:
    """Return the change, worked out from the fleet file alone.

    Raises:
        FleetFileError: the file has mistakes.
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
    return f"{hint} If it will not come back: {command} --old-is-dead"


def _look(wanted: Succession) -> None:
    """Before any change, refuse a backend that cannot take over."""
    fleet, new = wanted.fleet, wanted.fleet.issuer
    for balancer in fleet.balancers:
        # It has to send challenges to the new issuer, so this run must be able to reach it.
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
                "promote one that serves the current generation: see certsync status",
            )


def _refuse_without_binding_key(fleet: Fleet) -> None:
    if not fleet.authority.eab_key_id:
        return
    done = ssh.on(fleet.issuer, fleet.known_hosts, "test -s /etc/certsync/eab-hmac-key")
    if done.status != 0:
        raise RefusedError(
            f"{fleet.issuer_name} has no /etc/certsync/eab-hmac-key, which this CA requires for "
            "a new account; nothing was changed",
            "save the CA's HMAC key there, owned by root, mode 600",
        )


def _refuse_if_it_answers(old: Machine, fleet: Fleet) -> None:
    try:
        ssh.on(old, fleet.known_hosts, "true")
    except SilentError:
        return
    except UnreachableError as error:
        raise RefusedError(
            f"{error.message}, so it may not be dead; nothing was changed",
            f"{error.hint} Switch it off or fix that, then run the command again",
        ) from None
    raise RefusedError(
        f"{old.name} answers over SSH, so it is not dead; nothing was changed",
        "leave out --old-is-dead: it can hand its role over",
    )


def _proven_by_issuer(wanted: Succession) -> Proven:
    """Return the answer of the old issuer, or of the new one if it has taken over already."""
    fleet = wanted.fleet
    asked = _acting_issuer(wanted)
    issuer_side.refuse_what_is_not_deployed(fleet, asked, ())
    seen = issuer_side.proven(fleet, asked)
    # It has to deactivate its account.
    issuer_side.refuse_older_protocol(asked, seen)
    if seen.compromise:
        raise RefusedError(
            f"{asked.name} has not replaced compromised keys yet: {seen.compromise}; nothing "
            "was changed",
            "wait for its hourly run to finish that; certsync status shows what stops it",
        )
    return seen


def _objection_by_proofs(
    fleet: Fleet, proofs: Mapping[str, Mapping[str, Proof]], lineage: Lineage
) -> str:
    """Return why the issuer's proofs rule it out for a lineage; empty: they do not."""
    if fleet.issuer not in fleet.members(lineage):
        return ""
    return objection_of_proofs(fleet.issuer_name, list(proofs.get(lineage.name, {}).values()))


def _objection_by_holdings(wanted: Succession, lineage: Lineage) -> str:
    """Return why the reachable backends rule it out for a lineage; empty: they do not."""
    found, name = _holdings(wanted, lineage), wanted.fleet.issuer_name
    if name in found and is_ordered_anew(wanted.fleet, lineage, found[name].generation):
        return ""
    return objection_of_holdings(name, found)


def _acting_issuer(wanted: Succession) -> Machine:
    """Return the one of the two that knows the current generations.

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
    # A new issuer that has half taken over knows the fleet as well.
    follows = not (marked and working) and _is_marked(fleet.issuer, fleet)
    return fleet.issuer if follows else old


def _is_marked(machine: Machine, fleet: Fleet) -> bool:
    return bool(ssh.on(machine, fleet.known_hosts, MARKED).stdout.strip())


def _holdings(wanted: Succession, lineage: Lineage) -> dict[str, Holding]:
    """Return what each reachable backend holds and serves for a lineage."""
    fleet = wanted.fleet

    def look(machine: Machine) -> Holding | None:
        # Run on the host itself: a firewall may allow only the balancers to its port 443.
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
    """Parse the output of `held_and_served.sh`."""
    number, _, rest = output.partition("held\n")
    own, _, shown = rest.partition("served\n")
    return Holding(number.strip(), _fingerprint(own), _fingerprint(shown))


def _fingerprint(text: str) -> str:
    found = PEM.search(text)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.group())).hexdigest() if found else ""

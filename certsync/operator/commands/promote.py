"""`certsync promote`: another backend becomes the issuer. Nothing secret moves."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certsync.model import paths
from certsync.model.errors import (
    CertsyncError,
    HostError,
    RefusedError,
    RolloutError,
    SilentError,
    UnreachableError,
)
from certsync.model.fleet import Fleet, Machine
from certsync.operator.change import Change
from certsync.operator.deployment import execute, operations
from certsync.operator.deployment.plan import HERE, FileChange, Plan, Step
from certsync.operator.deployment.request import KEPT, DeployRequest, Options
from certsync.operator.deployment.succession import (
    Holding,
    is_ordered_anew,
    objection_of_holdings,
    objection_of_proofs,
)
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.fleet_file.editing import write
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.operator.rendering.templates import bracketed
from certsync.programs import command
from certsync.system import caa, console, parallel, ssh

FILE_PHASE = "at last: the fleet file"
NO_ORDER = (operations.ORDER,)
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


def plan(path: Path, name: str, *, old_is_dead: bool) -> Plan:
    """Return what promoting it would do; nothing is changed, and the CA is not asked.

    Raises:
        CertsyncError: see `promote`.
    """
    wanted = succession(path, name, old_is_dead=old_is_dead)
    _look(wanted)
    _tell_of_pins(wanted.fleet)
    _tell_of_orders(wanted.fleet)
    found = execute.dry_run(wanted.request, wanted.fleet, NO_ORDER)
    if written := wanted.written():
        step, file = written
        found += Plan((step,), (file,))
    return found


def promote(
    path: Path, name: str, now: Callable[[], datetime], done: list[Step], *, old_is_dead: bool
) -> None:
    """Have it take over, printing as it goes and the table at its end.

    ``done`` gets what was changed. The fleet file is written last, so that the same command goes on
    where one was cut off.

    Raises:
        FleetFileError: the file has mistakes.
        RefusedError: it does not hold and serve the current generation of a lineage that it is to
            serve; nothing was changed.
        HostError: it, or the issuer, cannot be reached.
        LockHeldError: another run changes the fleet.
        RolloutError: a step failed; the same command goes on.
    """
    wanted = succession(path, name, old_is_dead=old_is_dead)
    with ExitStack() as stack:
        token = stack.enter_context(fleet_lock.held(wanted.fleet, "promote"))
        others = {}
        if wanted.old and not old_is_dead:
            others[wanted.old.name] = _lock_old(stack, wanted)
        _look(wanted)
        pinned = _tell_of_pins(wanted.fleet)
        anew = _tell_of_orders(wanted.fleet)
        executed = execute.run(wanted.request, wanted.fleet, token, done, others)
        _refuse_half(wanted, executed)
        if written := wanted.written():
            step, file = written
            write(path, file.after)
            console.tell(f'wrote issuer = "{name}" into {path}')
            done.append(step)
    _tell_what_is_left(wanted, pinned=pinned)
    dead = wanted.old.name if wanted.old and old_is_dead else ""
    known = expected(wanted.fleet, dead, anew)
    execute.report_outcome(
        wanted.fleet, executed, execute.wait_until_settled(wanted.file, now), known
    )


def _lock_old(stack: ExitStack, wanted: Succession) -> str:
    try:
        return stack.enter_context(fleet_lock.held(wanted.before, "promote"))
    except UnreachableError as error:
        raise HostError(error.why, _if_dead(wanted, error.hint), host=error.host) from None


def _if_dead(wanted: Succession, hint: str) -> str:
    command = f"certsync promote {shlex.quote(str(wanted.file))} {wanted.fleet.issuer_name}"
    return f"{hint} If it is gone for good: {command} --old-is-dead"


def _refuse_half(wanted: Succession, executed: execute.Executed) -> None:
    """Write no new issuer into the fleet file that is not one, or beside an old one that still is.

    A replica that was missed is told with the table: it is out of the way of challenges until it
    is deployed to.
    """
    outcome = executed.outcome
    broken = {*outcome.unreached, *outcome.failed}
    needed = {wanted.fleet.issuer_name, *(each.name for each in wanted.fleet.balancers)}
    if wanted.old and not wanted.old_is_dead:
        needed.add(wanted.old.name)
    if broken & needed:
        raise RolloutError(
            f"{wanted.fleet.issuer_name} has not taken over yet: {executed.why}",
            "run the same command again when this is fixed",
        )


# Looking


def _look(wanted: Succession) -> None:
    """Refuse a backend that cannot take over, before any change."""
    fleet, new = wanted.fleet, wanted.fleet.issuer
    for balancer in fleet.balancers:
        # It has to send challenges to the new issuer, and nobody else can tell it so.
        ssh.on(balancer, fleet.known_hosts, "true")
    _refuse_without_binding_key(fleet)
    if wanted.old and wanted.old_is_dead:
        _refuse_if_it_answers(wanted.old, fleet)
        objections = [_objection_by_holdings(wanted, each) for each in fleet.lineages]
        why = _first_of(fleet, objections)
    else:
        why = _objection_by_issuer(wanted)
    if why:
        raise RefusedError(
            f"{new.name} cannot become the issuer: {why}; nothing was changed",
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


def _objection_by_issuer(wanted: Succession) -> str:
    """Return what the issuer says against it: the old one, or the new one where it is that far."""
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
    objections = [
        objection_of_proofs(fleet.issuer_name, list(seen.proofs.get(each.lineage, {}).values()))
        if fleet.issuer in each.members
        else ""
        for each in fleet.lineages
    ]
    return _first_of(fleet, objections)


def _objection_by_holdings(wanted: Succession, fleet: Fleet) -> str:
    """Return what the backends in reach say against it, of one lineage."""
    found, name = _holdings(wanted, fleet), fleet.issuer_name
    if name in found and is_ordered_anew(fleet, name, found[name].generation):
        return ""
    return objection_of_holdings(name, found)


def _first_of(fleet: Fleet, objections: Sequence[str]) -> str:
    """Return the first lineage's objection that there is."""
    for each, why in zip(fleet.lineages, objections, strict=True):
        if why:
            return f"of {each.lineage}: {why}" if len(objections) > 1 else why
    return ""


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


def _holdings(wanted: Succession, fleet: Fleet) -> dict[str, Holding]:
    """Return what each backend in reach holds and serves of a lineage."""

    def look(machine: Machine) -> Holding | None:
        # On the host itself: a firewall may keep everybody but the balancers from its port 443.
        address = bracketed(machine.private_address)
        script = command("held_and_served.sh", fleet.lineage, address)
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


# Telling


def _tell_of_pins(fleet: Fleet) -> bool:
    """Tell of CAA records that let only one account order, which will be another one."""
    names = [name for each in fleet.lineages for name in each.names]
    pins = caa.look_up(names, console.tell)
    for pin in pins:
        console.warn(
            f"a CAA record at {pin.name} lets only the account {pin.account} order at {pin.ca}, "
            f"and {fleet.issuer_name} will have an account of its own"
        )
    return bool(pins)


def _tell_of_orders(fleet: Fleet) -> list[str]:
    """Tell which lineages the new issuer has to order anew, and return them."""
    name, anew = fleet.issuer_name, list[str]()
    for each in fleet.lineages:
        if fleet.issuer in each.members:
            continue
        link = shlex.quote(f"/etc/certsync/live/{each.lineage}")
        done = ssh.on(fleet.issuer, fleet.known_hosts, f'basename "$(readlink {link})"')
        if is_ordered_anew(each, name, done.stdout.strip()):
            anew.append(each.lineage)
            console.warn(of_order(name, each.lineage))
    return anew


def of_order(name: str, lineage: str) -> str:
    """Return what is told of a lineage that the new issuer has to order anew."""
    return (
        f"{name} does not serve {lineage}, so it has no certificate for it, and this command "
        "orders none: its next hourly run does; until then those who serve it go on with the one "
        f"that they have. At once: sudo certsync renew on {name}"
    )


def expected(fleet: Fleet, dead: str, anew: Sequence[str]) -> list[tuple[str, str]]:
    """Return the hosts whose findings at the end are known, with a lineage besides the first.

    They are those of an issuer that is dead, and of lineages that are to be ordered anew.
    """
    found = []
    for each in fleet.lineages:
        hosts = [dead] if dead else []
        if each.lineage in anew:
            hosts += [*(machine.name for machine in each.holders), *fleet.public_addresses]
        other = "" if each.lineage == fleet.lineage else each.lineage
        found += [(name, other) for name in hosts]
    return found


def _account(text: str) -> str:
    try:
        return str(json.loads(text)["uri"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _tell_what_is_left(wanted: Succession, *, pinned: bool) -> None:
    fleet, name = wanted.fleet, wanted.fleet.issuer_name
    if pinned:
        place = paths.IssuerPaths().account(fleet.authority.directory)
        told = ssh.on(fleet.issuer, fleet.known_hosts, f"cat {place}/account.json").stdout
        account = _account(told)
        console.warn(f"put this account into the CAA record: accounturi={account}")
    if fleet.notify.events:
        console.warn(
            f"where messages go is a secret and was not moved: certsync notify --set on {name}"
        )
    if wanted.old and wanted.old_is_dead:
        old, path = wanted.old.name, shlex.quote(str(wanted.file))
        console.warn(
            f"{old} is still in the fleet; if it comes back, make a replica of it: "
            f"certsync promote {path} {name}; if it does not: "
            f"certsync remove-backend {path} {old} --gone"
        )

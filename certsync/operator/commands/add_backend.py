"""`certsync add-backend`: a new backend gets the certificate, is proven, then takes traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certsync.model.errors import CertsyncError, RefusedError
from certsync.model.fleet import Fleet
from certsync.operator.balancer import rules
from certsync.operator.change import Addition, Change
from certsync.operator.deployment import conclusion, execute, operations
from certsync.operator.deployment.attached import deploying
from certsync.operator.deployment.plan import HERE, FileChange, Plan, Step
from certsync.operator.deployment.request import KEPT, DeployRequest, Options
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.operator.hosts.check_online import look_at_new
from certsync.operator.hosts.facts import Adopt
from certsync.system import console

FILE_PHASE = "first: the fleet file"
NO_ORDER = (operations.ORDER,)


@dataclass(frozen=True)
class Joining:
    """Backends that join a fleet."""

    file: FleetFile
    """The fleet file with them added."""

    fleet: Fleet

    adopt: Adopt
    """Whose files on them may be replaced."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.name for each in self.file.change.add)

    @property
    def request(self) -> DeployRequest:
        """The pyinfra run; it touches no other replica."""
        fleet = self.fleet
        only = (*self.names, fleet.issuer_name, *(each.name for each in fleet.balancers))
        options = Options(KEPT, adopt_nginx=self.adopt.nginx, adopt_haproxy=self.adopt.haproxy)
        return DeployRequest(self.file, options, only)

    def written(self) -> tuple[Step, FileChange] | None:
        """Return the step that writes the fleet file; None: already written."""
        before, after = self.file.before.text, self.file.text
        if before == after:
            return None
        what = f"add {', '.join(self.names)} to {self.file}"
        return Step(FILE_PHASE, HERE, what), FileChange(HERE, str(self.file), before, after)


def joining(path: Path, additions: tuple[Addition, ...], adopt: Adopt) -> Joining:
    """Return the change, worked out from the fleet file alone.

    Raises:
        FleetFileError: the file has mistakes, or would have with the change.
        CertsyncError: a name is already in the fleet at another address, or would serve nothing.
    """
    file = opened(path)
    before = file.fleet
    refuse_without_lineage(before, additions, path)
    known = {machine.name: machine for machine in before.machines}
    for each in additions:
        there = known.get(each.name)
        private = each.private_address or each.address
        if there is not None and (there.address, there.private_address) != (each.address, private):
            at = " and ".join(dict.fromkeys((there.address, there.private_address)))
            raise CertsyncError(
                f"{each.name} is already in {path}, at {at}",
                f"give the new backend another name, or remove the old one: "
                f"certsync remove-backend {path} {each.name}",
            )
    with_them = file.changing(Change(add=additions))
    return Joining(with_them, with_them.fleet, adopt)


def refuse_without_lineage(fleet: Fleet, additions: tuple[Addition, ...], path: Path) -> None:
    """Refuse a backend that would serve no lineage, or one that does not exist.

    Raises:
        CertsyncError: `--serves` names an unknown lineage; or every lineage has a `served_by`, and
            none lists the new backend.
    """
    lineages = {each.name: each.serving for each in fleet.lineages}
    known = ", ".join(lineages)
    for each in additions:
        if unknown := [name for name in each.serves if name not in lineages]:
            raise CertsyncError(
                f"{path} has no lineage {unknown[0]}", f"its lineages, by first name: {known}"
            )
        named = any(each.name in serving for serving in lineages.values())
        if all(lineages.values()) and not named and not each.serves:
            raise CertsyncError(
                f"{each.name} would serve nothing: no served_by in {path} lists it",
                f"add --serves LINEAGE, one or more of: {known}",
            )


def plan(path: Path, additions: tuple[Addition, ...], adopt: Adopt, now: datetime) -> Plan:
    """Return what adding them would do; nothing is changed, not even the fleet file.

    Raises:
        CertsyncError: see `add_backend`.
    """
    wanted = joining(path, additions, adopt)
    _look(wanted, now)
    found = Plan()
    if written := wanted.written():
        step, file = written
        found = Plan((step,), (file,))
    return found + execute.dry_run(
        wanted.request, wanted.fleet, NO_ORDER, deploying(wanted.fleet, joining=wanted.names)
    )


def add_backend(
    path: Path,
    additions: tuple[Addition, ...],
    adopt: Adopt,
    now: Callable[[], datetime],
    done: list[Step],
) -> None:
    """Add them; print progress and the final table. ``done`` gets what was changed.

    Raises:
        FleetFileError: the file has mistakes, or would have with the change.
        RefusedError: a host is unfit, or other edits are not deployed yet; nothing was changed.
        LockHeldError, LockLostError: another run is, or may be, changing the fleet.
        RolloutError: a step failed; an unproven backend is in no pool, and the same command
            continues.
    """
    wanted = joining(path, additions, adopt)
    attached = deploying(wanted.fleet, joining=wanted.names)
    with fleet_lock.held(wanted.fleet, "add-backend") as lock:
        _look(wanted, now())
        if written := wanted.written():
            lock.require()
            wanted.file.save()
            console.tell(f"added {', '.join(wanted.names)} to {path}")
            done.append(written[0])
        executed = execute.run(wanted.request, wanted.fleet, [lock], done, attached)
        shown = execute.wait_until_settled(wanted.file, now)
    conclusion.report_outcome(wanted.fleet, executed, shown)
    for name in wanted.names if attached else ():
        if attached and (text := attached.about_port_80(name)):
            console.warn(text)
    if text := rules.conclusion(wanted.fleet, path):
        console.result(text)


def _look(wanted: Joining, now: datetime) -> None:
    """Before any change, refuse unfit hosts and a fleet file with edits not deployed yet."""
    fleet = wanted.fleet
    issuer_side.refuse_what_is_not_deployed(fleet, fleet.issuer, wanted.names)
    if not issuer_side.proven(fleet, fleet.issuer).current:
        raise RefusedError(
            f"{fleet.issuer_name} has no certificate yet, so there is nothing to copy to others",
            f"finish the first deploy: certsync deploy {wanted.file}",
        )
    new = [machine for machine in fleet.backends if machine.name in wanted.names]
    found = look_at_new(fleet, new, now, wanted.adopt)
    if stopping := [each for each in found if each.stops]:
        problems = "\n".join(each.full() for each in stopping)
        raise RefusedError(f"nothing was changed on any host or in {wanted.file}:\n{problems}")

"""`certsync remove-backend`: a backend leaves, and takes neither connections nor a key with it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from certsync.model.errors import CertsyncError, HostError, RefusedError, RolloutError
from certsync.model.fleet import Fleet, Machine
from certsync.model.options import Provider
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer import haproxy
from certsync.operator.balancer.gate import pool_name
from certsync.operator.balancer.haproxy import Pools
from certsync.operator.change import NONE, Change
from certsync.operator.deployment import execute, operations, request
from certsync.operator.deployment.plan import HERE, FileChange, Plan, Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.request import DeployRequest
from certsync.operator.fleet_file import FleetFile, opened
from certsync.operator.fleet_file.editing import write
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.system import console, ssh

FILE_PHASE = "at last: the fleet file"
DEPLOY = "deploy/remove.py"
"""Of the run's operations the last one: what is left when nothing else has failed."""


GOOD = (Verdict.IN_SYNC, Verdict.BEHIND)
"""What clients accept."""


@dataclass(frozen=True)
class Options:
    """What a person can say of the backend."""

    gone: bool = False
    """It cannot be reached, and will not be."""

    compromised: bool = False
    """Its keys are in strange hands, or may be."""

    drain_seconds: int = 60
    """How long its last connections may take to end."""


@dataclass(frozen=True)
class Leaving:
    """A backend that leaves a fleet."""

    file: FleetFile
    name: str
    options: Options
    fleet: Fleet
    """Without it."""

    machine: Machine | None
    """None: it has left the fleet file already."""

    lineages: tuple[str, ...] = ()
    """Those that it serves."""

    named: bool = True
    """Whether the fleet file names it; else the issuer alone knows the machine, if there is one."""

    @property
    def change(self) -> Change:
        """What becomes of the fleet file."""
        if self.machine and not self.named:
            return Change(departing=(self.machine,))
        return Change(remove=(self.name,)) if self.machine else NONE

    @property
    def after(self) -> FleetFile:
        """The fleet file with that."""
        return self.file.changing(self.change)

    @property
    def request(self) -> DeployRequest:
        """What pyinfra is asked for: of the other replicas, none."""
        fleet, options = self.fleet, self.options
        only = [fleet.issuer_name, *(each.name for each in fleet.balancers)]
        if self.machine and not options.gone:
            only.append(self.name)
        wanted = request.Options(
            leaving=self.name,
            leaving_address=self.machine.private_address if self.machine else "",
            drain_seconds=options.drain_seconds,
            compromised=options.compromised,
        )
        return DeployRequest(self.after, wanted, tuple(only), DEPLOY)

    def written(self) -> tuple[Step, FileChange]:
        """Return the last step, which has the fleet file forget it."""
        before, after = self.file.text, self.after.text
        step = Step(FILE_PHASE, HERE, f"take {self.name} out of {self.file}")
        return step, FileChange(HERE, str(self.file), before, after)


def leaving(path: Path, name: str, options: Options) -> Leaving:
    """Return what is to be done, from the fleet file alone.

    Raises:
        FleetFileError: it has mistakes.
        CertsyncError: it is the issuer, the only backend, or a balancer. Whether one that is not
            there has left, or is still in the fleet, the issuer knows.
    """
    file = opened(path)
    fleet = file.fleet
    machine = next((each for each in fleet.backends if each.name == name), None)
    if machine is None:
        if name not in [each.name for each in fleet.balancers]:
            return Leaving(file, name, options, fleet, None, named=False)
        raise _no_such_backend(path, name, fleet)
    if len(fleet.backends) == 1:
        raise RefusedError(
            f"{name} is the only backend: nobody would serve the site; nothing was changed",
            f"add another one first: certsync add-backend {path} NAME ADDRESS",
        )
    for each in fleet.lineages:
        if each.members == (machine,):
            raise RefusedError(
                f"{name} is the only one that serves {each.lineage}; nothing was changed",
                f"name another one in its served_by first, and then certsync deploy {path}",
            )
    if machine == fleet.issuer:
        other = fleet.replicas[0].name
        raise RefusedError(
            f"{name} is the issuer: nobody would renew the certificate; nothing was changed",
            f"promote another one first: certsync promote {path} {other}",
        )
    after = file.changing(Change(remove=(name,))).fleet
    served = tuple(each.lineage for each in fleet.lineages if machine in each.members)
    return Leaving(file, name, options, after, machine, served)


def _no_such_backend(path: Path, name: str, fleet: Fleet) -> CertsyncError:
    names = ", ".join(each.name for each in fleet.backends)
    return CertsyncError(f"{path} has no backend {name}", f"its backends are {names}")


def plan(path: Path, name: str, options: Options) -> Plan:
    """Return what removing it would do; nothing is changed.

    Raises:
        CertsyncError: see `remove_backend`.
    """
    wanted = _looked(leaving(path, name, options))
    found = execute.dry_run(wanted.request, wanted.fleet, execute.NOTHING_ELSE)
    order = "one, with a new key" if options.compromised else "none"
    last = Plan()
    if wanted.machine and wanted.named:
        step, file = wanted.written()
        last = Plan((step,), (file,))
    return replace(found, order=order) + last


def remove_backend(
    path: Path, name: str, options: Options, now: Callable[[], datetime], done: list[Step]
) -> None:
    """Remove it, printing as it goes and the table at its end; ``done`` gets what was changed.

    The fleet file is written last, so that the same command goes on where one was cut off.

    Raises:
        FleetFileError: the file has mistakes.
        RefusedError: it may not leave; nothing was changed.
        HostError: it cannot be reached.
        LockHeldError: another run changes the fleet.
        RolloutError: a step failed; the same command goes on. Or only the keys are left to replace.
    """
    wanted = leaving(path, name, options)
    with fleet_lock.held(wanted.fleet, "remove-backend") as token:
        wanted = _looked(wanted)
        _tell_of_the_pool(wanted)
        executed = execute.run(wanted.request, wanted.fleet, token, done)
        has_left = not executed.failures or _are_only_keys_left(wanted.fleet, executed.outcome)
        if not has_left:
            raise RolloutError(f"{name} is not removed yet: {executed.why}", _how_to_go_on(wanted))
        if wanted.machine and wanted.named:
            step, file = wanted.written()
            write(path, file.after)
            console.tell(f"took {name} out of {path}")
            done.append(step)
        if executed.failures:
            raise RolloutError(*_of_keys_left(wanted, executed.why))
    _tell_of_the_key(wanted)
    execute.report_outcome(wanted.fleet, executed, execute.wait_until_settled(wanted.after, now))


def _how_to_go_on(wanted: Leaving) -> str:
    again = "run the same command again when this is fixed"
    if wanted.machine and not wanted.named:
        # The issuer may have forgotten it already.
        return (
            f"write {wanted.name} with its address {wanted.machine.address} into {wanted.file} "
            f"again, and {again}"
        )
    return again


def _are_only_keys_left(fleet: Fleet, outcome: Outcome) -> bool:
    return not outcome.unreached and outcome.failed == {fleet.issuer_name: operations.REPLACE_KEYS}


def _of_keys_left(wanted: Leaving, why: str) -> tuple[str, str]:
    """Return what to tell when it is out of the fleet, and its keys are not replaced.

    Were it in the fleet file still, the next deploy would bring it back.
    """
    path = shlex.quote(str(wanted.file))
    again = f"certsync remove-backend {path} {wanted.name} --gone --compromised"
    return (
        f"{wanted.name} has left; its keys are not all replaced yet: {why}",
        f"the hourly run goes on by itself once it can, and so does {again}",
    )


def _tell_of_the_pool(wanted: Leaving) -> None:
    if wanted.machine and wanted.fleet.balancer.provider is Provider.NONE:
        console.warn(
            f"take {wanted.name} out of your provider's pools now: it goes on getting connections, "
            f"and is asked to serve none in {wanted.options.drain_seconds} s"
        )


def _tell_of_the_key(wanted: Leaving) -> None:
    if wanted.options.gone and not wanted.options.compromised:
        command = f"certsync remove-backend {shlex.quote(str(wanted.file))} {wanted.name}"
        console.warn(
            f"the certificate's private key is still on {wanted.name}; if somebody else may get at "
            f"it, replace the key and have the certificate revoked: {command} --gone --compromised"
        )


def _looked(wanted: Leaving) -> Leaving:
    """Return what is to be done by what the issuer knows as well.

    Before any change, it is refused to take away who is needed, or whom nobody can reach.
    """
    fleet = wanted.fleet
    if not wanted.named:
        wanted = as_the_issuer_knows_it(wanted, issuer_side.rendered(fleet, fleet.issuer))
    issuer_side.refuse_what_is_not_deployed(fleet, fleet.issuer, (wanted.name,))
    if wanted.options.compromised:
        issuer_side.refuse_another_release(fleet, fleet.issuer)
    if wanted.machine is None:
        _refuse_a_stranger(wanted, issuer_side.left(fleet, fleet.issuer))
        return wanted
    _refuse_the_last(wanted)
    _refuse_what_is_said_of(wanted, wanted.machine)
    return wanted


def as_the_issuer_knows_it(wanted: Leaving, rendered: Fleet) -> Leaving:
    """Return what is to be done about a name that the fleet file lacks, by the deployed fleet.

    So it is where the issuer was restored from a backup of before the backend left, or where
    somebody took it out of the fleet file by hand.

    Raises:
        CertsyncError: the issuer has no such backend, and its keys are not to be replaced.
        HostError: what the issuer says of it cannot be.
        RefusedError: there are more of its kind.
    """
    path, name, fleet = wanted.file.path, wanted.name, wanted.fleet
    missing = issuer_side.forgotten(fleet, rendered)
    machine = missing.pop(name, None)
    if machine is None:
        if wanted.options.compromised:
            return wanted
        raise _no_such_backend(path, name, fleet)
    if missing:
        others = ", ".join(f"{each.name} ({each.address})" for each in missing.values())
        raise RefusedError(
            f"the issuer knows {others} too, and {path} does not; nothing was changed",
            f"write {', '.join(missing)} into it again, then take out one after the other",
        )
    served = tuple(each.lineage for each in rendered.lineages if machine in each.members)
    # Where its key lies is each operator's own.
    machine = replace(machine, ssh_key=fleet.issuer.ssh_key)
    return replace(wanted, machine=machine, lineages=served)


def _refuse_what_is_said_of(wanted: Leaving, machine: Machine) -> None:
    """Refuse to leave the key on a backend that is there, or to wait for one that is gone.

    Where an issuer alone says which machine it is, the machine has to be a backend of this fleet.
    """
    folders = (f"/etc/certsync/archive/{each.lineage}" for each in wanted.fleet.lineages)
    looks = " || ".join(f"test -d {shlex.quote(folder)}" for folder in folders)
    try:
        asked = ssh.on(machine, wanted.fleet.known_hosts, "true" if wanted.named else looks)
    except HostError as error:
        # One with a dead disk may still answer over SSH, and run nothing.
        if wanted.options.gone:
            return
        hint = error.hint if error.hint.endswith("?") or not error.hint else f"{error.hint}."
        raise HostError(
            error.why,
            f"{hint} If it is gone for good, add --gone: its key then stays on it".lstrip(),
            host=error.host,
        ) from None
    if asked.status != 0:
        if wanted.options.gone:
            return
        raise RefusedError(
            f"{wanted.name} has no certificate of this fleet, and is at {machine.address} by what "
            "the issuer says alone; nothing was changed",
            "if another machine has that address now, add --gone",
        )
    if wanted.options.gone:
        raise RefusedError(
            f"{wanted.name} answers over SSH: nothing was changed",
            "leave out --gone, so that the key is taken off it",
        )


def _refuse_a_stranger(wanted: Leaving, left: Sequence[str]) -> None:
    """Refuse a name that nobody had: whoever is meant would get the new key like the others."""
    if wanted.name in left:
        return
    names = ", ".join(each.name for each in wanted.fleet.backends)
    told = f"; those have left: {', '.join(left)}" if left else ""
    raise CertsyncError(
        f"{wanted.file} has no backend {wanted.name}, and none of that name has left it; nothing "
        "was changed",
        f"its backends are {names}{told}; of one that left while an issuer that is dead kept the "
        f"list, on {wanted.fleet.issuer_name}: sudo certsync compromised --by {wanted.name}",
    )


def _refuse_the_last(wanted: Leaving) -> None:
    fleet = wanted.fleet
    proofs = issuer_side.proven(fleet, fleet.issuer).proofs
    asked = list[Pools]()
    for pools in haproxy.pools(fleet).values():
        if isinstance(pools, HostError):
            raise HostError(
                f"{pools.why}; it would send {wanted.name} connections still, so nothing was "
                "changed",
                pools.hint,
                host=pools.host,
            )
        asked.append(pools)
    refuse_the_last(wanted, proofs, asked)


def refuse_the_last(
    wanted: Leaving, proofs: Mapping[str, Mapping[str, Proof]], asked: Sequence[Pools]
) -> None:
    """Refuse to take away the last one that serves a lineage; nobody may have served it before.

    ``proofs`` are by lineage and backend, ``asked`` is what each balancer says of its pools.

    Raises:
        RefusedError: it is the last one of a lineage.
    """
    alone = [
        each.lineage
        for each in wanted.fleet.lineages
        if each.lineage in wanted.lineages
        and _serves(wanted.name, each, proofs.get(each.lineage, {}), asked, wanted.fleet)
        and not _serving(each, proofs.get(each.lineage, {}), asked, wanted.fleet)
    ]
    if alone:
        of = f" {', '.join(alone)}" if wanted.fleet.others else ""
        raise RefusedError(
            f"{wanted.name} is the last backend that serves{of}; nothing was changed",
            f"fix another one first: certsync status {wanted.file} says what is wrong",
        )


def _serves(
    name: str,
    lineage: Fleet,
    proofs: Mapping[str, Proof],
    asked: Sequence[Pools],
    fleet: Fleet,
) -> bool:
    """Return whether the one that leaves serves a lineage, as far as anybody can tell."""
    verdict = proofs[name].verdict if name in proofs else Verdict.UNREACHABLE
    if not fleet.passthrough or not asked:
        return verdict in GOOD
    # A balancer may reach one that the issuer does not.
    pool = pool_name(fleet, lineage.lineage)
    taking = any(pools.get(pool, {}).get(name) == "yes" for pools in asked)
    return taking and verdict in (*GOOD, Verdict.UNREACHABLE)


def _serving(
    lineage: Fleet, proofs: Mapping[str, Proof], asked: Sequence[Pools], fleet: Fleet
) -> set[str]:
    """Return who serves a lineage and gets its connections, of those who stay."""
    members = {each.name for each in lineage.members}
    serving = {name for name, each in proofs.items() if each.verdict in GOOD} & members
    pool = pool_name(fleet, lineage.lineage)
    for pools in asked if fleet.passthrough else ():
        serving &= {name for name, word in pools.get(pool, {}).items() if word == "yes"}
    return serving

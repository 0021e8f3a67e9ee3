"""A backend that leaves a fleet: what is to be done, and what stands against it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from certsync.model.errors import CertsyncError, HostError, RefusedError
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.model.proof import Proof, Verdict
from certsync.operator.balancer import haproxy
from certsync.operator.balancer.gate import pool_name
from certsync.operator.balancer.haproxy import Pools
from certsync.operator.change import Change
from certsync.operator.deployment.leaving import Leaving, Options
from certsync.operator.fleet_file import opened
from certsync.operator.hosts import issuer_side
from certsync.system import ssh

GOOD = (Verdict.IN_SYNC, Verdict.BEHIND)
"""What clients accept."""


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
        if fleet.members(each) == (machine,):
            raise RefusedError(
                f"{name} is the only one that serves {each.name}; nothing was changed",
                f"name another one in its served_by first, and then certsync deploy {path}",
            )
    if machine == fleet.issuer:
        other = fleet.replicas[0].name
        raise RefusedError(
            f"{name} is the issuer: nobody would renew the certificate; nothing was changed",
            f"promote another one first: certsync promote {path} {other}",
        )
    after = file.changing(Change(remove=(name,))).fleet
    served = tuple(each.name for each in fleet.lineages if machine in fleet.members(each))
    return Leaving(file, name, options, after, machine, served)


def _no_such_backend(path: Path, name: str, fleet: Fleet) -> CertsyncError:
    names = ", ".join(each.name for each in fleet.backends)
    return CertsyncError(f"{path} has no backend {name}", f"its backends are {names}")


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
    served = tuple(each.name for each in rendered.lineages if machine in rendered.members(each))
    # Where its key lies is each operator's own.
    machine = replace(machine, ssh_key=fleet.issuer.ssh_key)
    return replace(wanted, machine=machine, lineages=served)


def _refuse_what_is_said_of(wanted: Leaving, machine: Machine) -> None:
    """Refuse to leave the key on a backend that is there, or to wait for one that is gone.

    Where an issuer alone says which machine it is, the machine has to be a backend of this fleet.
    """
    folders = (f"/etc/certsync/archive/{each.name}" for each in wanted.fleet.lineages)
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
    fleet = wanted.fleet
    alone = [
        each.name
        for each in fleet.lineages
        if each.name in wanted.lineages
        and _serves(fleet, each, wanted.name, proofs.get(each.name, {}), asked)
        and not _serving(fleet, each, proofs.get(each.name, {}), asked)
    ]
    if alone:
        of = f" {', '.join(alone)}" if fleet.has_several else ""
        raise RefusedError(
            f"{wanted.name} is the last backend that serves{of}; nothing was changed",
            f"fix another one first: certsync status {wanted.file} says what is wrong",
        )


def _serves(
    fleet: Fleet,
    lineage: Lineage,
    name: str,
    proofs: Mapping[str, Proof],
    asked: Sequence[Pools],
) -> bool:
    """Return whether the one that leaves serves a lineage, as far as anybody can tell."""
    verdict = proofs[name].verdict if name in proofs else Verdict.UNREACHABLE
    if not fleet.passthrough or not asked:
        return verdict in GOOD
    # A balancer may reach one that the issuer does not.
    pool = pool_name(fleet, lineage.name)
    taking = any(pools.get(pool, {}).get(name) == "yes" for pools in asked)
    return taking and verdict in (*GOOD, Verdict.UNREACHABLE)


def _serving(
    fleet: Fleet, lineage: Lineage, proofs: Mapping[str, Proof], asked: Sequence[Pools]
) -> set[str]:
    """Return who serves a lineage and gets its connections, of those who stay."""
    members = {each.name for each in fleet.members(lineage)}
    serving = {name for name, each in proofs.items() if each.verdict in GOOD} & members
    pool = pool_name(fleet, lineage.name)
    for pools in asked if fleet.passthrough else ():
        serving &= {name for name, word in pools.get(pool, {}).items() if word == "yes"}
    return serving

"""A backend that leaves a fleet: the change, and the reasons to refuse it."""

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
from certsync.operator.watching import load_balancer
from certsync.system import ssh

GOOD = (Verdict.IN_SYNC, Verdict.BEHIND)
"""Verdicts on certificates that clients accept."""


def leaving(path: Path, name: str, options: Options) -> Leaving:
    """Return the change, worked out from the fleet file alone.

    A name that the file lacks may have left, or still be in the fleet: the issuer knows.

    Raises:
        FleetFileError: the file has mistakes.
        CertsyncError: it is the issuer, the only backend, or a balancer.
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
            f"{name} is the only backend: nothing would serve the site; nothing was changed",
            f"add another backend first: certsync add-backend {path} NAME ADDRESS",
        )
    for each in fleet.lineages:
        if fleet.members(each) == (machine,):
            raise RefusedError(
                f"{name} is the only backend that serves {each.name}; nothing was changed",
                f"add another backend to its served_by first, then run certsync deploy {path}",
            )
    if machine == fleet.issuer:
        other = fleet.replicas[0].name
        raise RefusedError(
            f"{name} is the issuer: nothing would renew the certificate; nothing was changed",
            f"promote another backend first: certsync promote {path} {other}",
        )
    after = file.changing(Change(remove=(name,))).fleet
    served = tuple(each.name for each in fleet.lineages if machine in fleet.members(each))
    return Leaving(file, name, options, after, machine, served)


def _no_such_backend(path: Path, name: str, fleet: Fleet) -> CertsyncError:
    names = ", ".join(each.name for each in fleet.backends)
    return CertsyncError(f"{path} has no backend {name}", f"its backends are {names}")


def _looked(wanted: Leaving) -> Leaving:
    """Return the change, completed with what the issuer knows.

    Before any change, refuse to remove a backend that is needed or unreachable.
    """
    fleet = wanted.fleet
    if not wanted.named:
        rendered = issuer_side.rendered(fleet, fleet.issuer)
        if _is_over(wanted, rendered):
            return replace(wanted, is_over=True)
        wanted = as_the_issuer_knows_it(wanted, rendered)
    issuer_side.refuse_what_is_not_deployed(fleet, fleet.issuer, (wanted.name,))
    seen = issuer_side.proven(fleet, fleet.issuer)
    # It gets this certsync's rendered fleet, and may have to replace keys.
    issuer_side.refuse_older_protocol(fleet.issuer, seen)
    if wanted.machine is None:
        _refuse_unknown_name(wanted, issuer_side.left(fleet, fleet.issuer))
        return wanted
    _refuse_the_last(wanted, seen.proofs)
    _refuse_wrong_gone(wanted, wanted.machine)
    return wanted


def _is_over(wanted: Leaving, rendered: Fleet) -> bool:
    """Return whether the issuer has removed this backend before; its keys may still be replaced."""
    if wanted.options.compromised or wanted.name in {each.name for each in rendered.backends}:
        return False
    return wanted.name in issuer_side.left(wanted.fleet, wanted.fleet.issuer)


def as_the_issuer_knows_it(wanted: Leaving, rendered: Fleet) -> Leaving:
    """Return the change for a name that only the deployed fleet has.

    This happens when the issuer was restored from a backup made before the backend left, or when
    somebody removed the backend from the fleet file by hand.

    Raises:
        CertsyncError: the issuer has no such backend, and its keys need no replacement.
        HostError: the issuer's record of it is invalid.
        RefusedError: other backends are missing from the fleet file too.
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
            f"the issuer also knows {others}, which {path} does not name; nothing was changed",
            f"add {', '.join(missing)} to it again, then remove one backend after the other",
        )
    served = tuple(each.name for each in rendered.lineages if machine in rendered.members(each))
    # The SSH key's path is different for each operator.
    machine = replace(machine, ssh_key=fleet.issuer.ssh_key)
    return replace(wanted, machine=machine, lineages=served)


def _refuse_wrong_gone(wanted: Leaving, machine: Machine) -> None:
    """Refuse `--gone` for a backend that answers, and its absence for one that does not.

    If only the issuer names the machine, it also has to hold a certificate of this fleet.
    """
    folders = (f"/etc/certsync/archive/{each.name}" for each in wanted.fleet.lineages)
    looks = " || ".join(f"test -d {shlex.quote(folder)}" for folder in folders)
    try:
        asked = ssh.on(machine, wanted.fleet.known_hosts, "true" if wanted.named else looks)
    except HostError as error:
        # A host with a dead disk may still answer over SSH but run nothing.
        if wanted.options.gone:
            return
        hint = error.hint if error.hint.endswith("?") or not error.hint else f"{error.hint}."
        raise HostError(
            error.why,
            f"{hint} If it will not come back, add --gone: its key then stays on it".lstrip(),
            host=error.host,
        ) from None
    if asked.status != 0:
        if wanted.options.gone:
            return
        raise RefusedError(
            f"{wanted.name} has no certificate of this fleet, and its address {machine.address} is "
            "known only from the issuer; nothing was changed",
            "if another machine has that address now, add --gone",
        )
    if wanted.options.gone:
        raise RefusedError(
            f"{wanted.name} answers over SSH: nothing was changed",
            "leave out --gone, so that the key is deleted from it",
        )


def _refuse_unknown_name(wanted: Leaving, left: Sequence[str]) -> None:
    """Refuse a mistyped name: the backend that is meant would get the new key like the others."""
    if wanted.name in left:
        return
    names = ", ".join(each.name for each in wanted.fleet.backends)
    gone = f"; removed earlier: {', '.join(left)}" if left else ""
    raise CertsyncError(
        f"{wanted.file} has no backend {wanted.name}, and none of that name was removed; nothing "
        "was changed",
        f"its backends are {names}{gone}; if it was removed under an earlier, dead issuer, on "
        f"{wanted.fleet.issuer_name}: sudo certsync compromised --by {wanted.name}",
    )


def _refuse_the_last(wanted: Leaving, proofs: Mapping[str, Mapping[str, Proof]]) -> None:
    fleet = wanted.fleet
    asked = _of_provider(wanted)
    for pools in haproxy.pools(fleet).values():
        if isinstance(pools, HostError):
            raise HostError(
                f"{pools.why}; it would keep sending connections to {wanted.name}, so nothing was "
                "changed",
                pools.hint,
                host=pools.host,
            )
        asked.append(pools)
    refuse_the_last(wanted, proofs, asked)


def _of_provider(wanted: Leaving) -> list[Pools]:
    """Return the pools of a provider's balancer; none: the fleet has none that is driven.

    Raises:
        ManagedError: it cannot be asked; nothing was changed.
    """
    fleet = wanted.fleet
    seen = load_balancer.look_or_fail(fleet, [wanted.machine] if wanted.machine else [])
    if seen is None:
        return []
    return [{pool_name(fleet, each.name): seen.pools for each in fleet.lineages}]


def refuse_the_last(
    wanted: Leaving, proofs: Mapping[str, Mapping[str, Proof]], asked: Sequence[Pools]
) -> None:
    """Refuse to remove the last backend that serves a lineage, unless none serves it anyway.

    ``proofs`` are by lineage and backend; ``asked`` is each balancer's answer about its pools.

    Raises:
        RefusedError: it is a lineage's last one.
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
            f"fix another backend first: certsync status {wanted.file} shows what is wrong",
        )


def _serves(
    fleet: Fleet,
    lineage: Lineage,
    name: str,
    proofs: Mapping[str, Proof],
    asked: Sequence[Pools],
) -> bool:
    """Return whether the leaving backend serves a lineage, as far as is known."""
    verdict = proofs[name].verdict if name in proofs else Verdict.UNREACHABLE
    if not fleet.passthrough or not asked:
        return verdict in GOOD
    # A balancer may reach a backend that the issuer cannot reach.
    pool = pool_name(fleet, lineage.name)
    taking = any(pools.get(pool, {}).get(name) == "yes" for pools in asked)
    return taking and verdict in (*GOOD, Verdict.UNREACHABLE)


def _serving(
    fleet: Fleet, lineage: Lineage, proofs: Mapping[str, Proof], asked: Sequence[Pools]
) -> set[str]:
    """Return the remaining backends that serve a lineage and get its connections."""
    members = {each.name for each in fleet.members(lineage)}
    serving = {name for name, each in proofs.items() if each.verdict in GOOD} & members
    pool = pool_name(fleet, lineage.name)
    for pools in asked if fleet.passthrough else ():
        serving &= {name for name, word in pools.get(pool, {}).items() if word == "yes"}
    return serving

"""`certsync promote`: another backend becomes the issuer. No private key is moved."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from certsync.model.errors import (
    HostError,
    RolloutError,
    UnreachableError,
)
from certsync.model.fleet import Fleet
from certsync.operator.deployment import conclusion, execute, operations
from certsync.operator.deployment.attached import deploying
from certsync.operator.deployment.executed import Executed
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.promotion import Succession, _if_dead, _look, succession
from certsync.operator.deployment.succession import (
    is_ordered_anew,
)
from certsync.operator.hosts import between, fleet_lock, issuer_side
from certsync.operator.hosts.fleet_lock import Lock
from certsync.system import caa, console, ssh

NO_ORDER = (operations.ORDER,)


def plan(path: Path, name: str, *, old_is_dead: bool) -> Plan:
    """Return what promoting it would do; nothing is changed and the CA is not asked.

    Raises:
        CertsyncError: see `promote`.
    """
    wanted = succession(path, name, old_is_dead=old_is_dead)
    _look(wanted)
    _warn_of_ways(wanted)
    _warn_of_pins(wanted.fleet)
    _warn_of_orders(wanted.fleet)
    found = execute.dry_run(wanted.request, wanted.fleet, NO_ORDER, deploying(wanted.fleet))
    if written := wanted.written():
        step, file = written
        found += Plan((step,), (file,))
    return found


def promote(
    path: Path, name: str, now: Callable[[], datetime], done: list[Step], *, old_is_dead: bool
) -> None:
    """Make it the issuer; print progress and the final table.

    ``done`` gets what was changed. The fleet file is written last, so that the same command
    continues an interrupted one.

    Raises:
        FleetFileError: the file has mistakes.
        RefusedError: it does not hold and serve the current generation of one of its lineages;
            nothing was changed.
        HostError: it or the issuer cannot be reached.
        LockHeldError: another run is changing the fleet.
        RolloutError: a step failed; the same command continues.
    """
    wanted = succession(path, name, old_is_dead=old_is_dead)
    attached = deploying(wanted.fleet)
    with ExitStack() as stack:
        locks = _locks(stack, wanted)
        _look(wanted)
        _warn_of_ways(wanted)
        pinned = _warn_of_pins(wanted.fleet)
        anew = _warn_of_orders(wanted.fleet)
        executed = execute.run(wanted.request, wanted.fleet, locks, done, attached)
        _refuse_half(wanted, executed)
        if written := wanted.written():
            for lock in locks:
                lock.require()
            wanted.file.save()
            console.tell(f'set issuer = "{name}" in {path}')
            done.append(written[0])
    _warn_of_remaining_work(wanted, pinned=pinned)
    dead = wanted.old.name if wanted.old and old_is_dead else ""
    known = expected(wanted.fleet, dead, anew)
    conclusion.report_outcome(
        wanted.fleet, executed, execute.wait_until_settled(wanted.file, now), known
    )


def _locks(stack: ExitStack, wanted: Succession) -> list[Lock]:
    """Take the fleet lock on the new issuer and on the old one.

    If the old one is dead, take it on every backend in reach: somebody else may be promoting
    another one.
    """
    fleet, verb = wanted.fleet, "promote"
    locks = [stack.enter_context(fleet_lock.held(fleet, verb))]
    if wanted.old and wanted.old_is_dead:
        others = [each for each in fleet.replicas if each != wanted.old]
        return locks + stack.enter_context(fleet_lock.held_on_all(others, fleet.known_hosts, verb))
    if wanted.old:
        try:
            locks.append(stack.enter_context(fleet_lock.held(wanted.before, verb)))
        except UnreachableError as error:
            raise HostError(error.why, _if_dead(wanted, error.hint), host=error.host) from None
    return locks


def _refuse_half(wanted: Succession, executed: Executed) -> None:
    """Refuse to write the new issuer into the fleet file while the takeover is incomplete.

    A replica that was missed is reported with the table: it gets no challenges until the next
    deploy reaches it.
    """
    outcome = executed.outcome
    broken = {*outcome.unreached, *outcome.failed}
    needed = {wanted.fleet.issuer_name, *(each.name for each in wanted.fleet.balancers)}
    if wanted.old and not wanted.old_is_dead:
        needed.add(wanted.old.name)
    if broken & needed:
        raise RolloutError(
            f"{wanted.fleet.issuer_name} has not taken over yet: {executed.why}",
            "fix this, then run the same command again",
        )


# Warnings


def _warn_of_ways(wanted: Succession) -> None:
    """Warn of replicas that its pushes would not reach; it is promoted all the same."""
    for each in between.of_next_issuer(wanted.fleet, wanted.old if wanted.old_is_dead else None):
        console.warn(f"{each}; {each.hint}")


def _warn_of_pins(fleet: Fleet) -> bool:
    """Warn of CAA records that permit only the old account; the new issuer has another."""
    names = [name for each in fleet.lineages for name in each.names]
    pins = caa.look_up(names, console.tell)
    for pin in pins:
        console.warn(
            f"a CAA record at {pin.name} permits orders at {pin.ca} only by account {pin.account}, "
            f"but {fleet.issuer_name} will have its own account"
        )
    return bool(pins)


def _warn_of_orders(fleet: Fleet) -> list[str]:
    """Return the lineages that the new issuer has to order again, with a warning for each."""
    name, anew = fleet.issuer_name, list[str]()
    for each in fleet.lineages:
        if fleet.issuer in fleet.members(each):
            continue
        link = shlex.quote(f"/etc/certsync/live/{each.name}")
        done = ssh.on(fleet.issuer, fleet.known_hosts, f'basename "$(readlink {link})"')
        if is_ordered_anew(fleet, each, done.stdout.strip()):
            anew.append(each.name)
            console.warn(of_order(name, each.name))
    return anew


def of_order(name: str, lineage: str) -> str:
    """Return the warning about a lineage that the new issuer has to order again."""
    return (
        f"{name} does not serve {lineage}, so it has no certificate for it; its next hourly run "
        "orders one, and until then the backends that serve it keep theirs. To order it now, on "
        f"{name}: sudo certsync renew"
    )


def expected(fleet: Fleet, dead: str, anew: Sequence[str]) -> list[tuple[str, str]]:
    """Return host and lineage of the findings to expect; an empty lineage is the first.

    They concern a dead issuer, and lineages that have to be ordered again.
    """
    found = []
    for each in fleet.lineages:
        hosts = [dead] if dead else []
        if each.name in anew:
            hosts += [*(machine.name for machine in fleet.holders(each)), *fleet.public_addresses]
        other = "" if each.name == fleet.name else each.name
        found += [(name, other) for name in hosts]
    return found


def _warn_of_remaining_work(wanted: Succession, *, pinned: bool) -> None:
    fleet, name = wanted.fleet, wanted.fleet.issuer_name
    if pinned:
        account = issuer_side.account(fleet)
        console.warn(f"put this account into the CAA record: accounturi={account}")
    if fleet.notify.events:
        console.warn(
            "the notification URLs are secret and were not copied; set them again, on "
            f"{name}: sudo certsync notify --set"
        )
    if wanted.old and wanted.old_is_dead:
        old, path = wanted.old.name, shlex.quote(str(wanted.file))
        console.warn(
            f"{old} is still in the fleet; if it comes back, make it a replica: "
            f"certsync promote {path} {name}; if it does not: "
            f"certsync remove-backend {path} {old} --gone"
        )

"""`certsync remove-backend`: drain a backend, remove it, and delete its certificate and key."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from certsync.model.errors import RolloutError
from certsync.model.fleet import Fleet
from certsync.model.options import Provider
from certsync.operator.deployment import conclusion, execute, operations
from certsync.operator.deployment.attached import removing
from certsync.operator.deployment.leaving import Leaving, Options
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.removal import _looked, leaving
from certsync.operator.hosts import fleet_lock
from certsync.system import console


def plan(path: Path, name: str, options: Options) -> Plan:
    """Return what removing it would do; nothing is changed.

    Raises:
        CertsyncError: see `remove_backend`.
    """
    wanted = _looked(leaving(path, name, options))
    if wanted.is_over:
        return Plan()
    attached = removing(wanted)
    found = execute.dry_run(wanted.request, wanted.fleet, execute.NOTHING_ELSE, attached)
    order = "one, with a new key" if options.compromised else "none"
    last = Plan()
    if wanted.machine and wanted.named:
        step, file = wanted.written()
        last = Plan((step,), (file,))
    return replace(found, order=order) + last


def remove_backend(
    path: Path, name: str, options: Options, now: Callable[[], datetime], done: list[Step]
) -> None:
    """Remove it; print progress and the final table. ``done`` gets what was changed.

    The fleet file is written last, so that the same command continues an interrupted one.

    Raises:
        FleetFileError: the file has mistakes.
        RefusedError: it must stay; nothing was changed.
        HostError: it cannot be reached.
        LockHeldError: another run is changing the fleet.
        RolloutError: a step failed; the same command continues. Or it is removed, and its keys are
            not all replaced yet.
    """
    wanted = leaving(path, name, options)
    with fleet_lock.held(wanted.fleet, "remove-backend") as lock:
        wanted = _looked(wanted)
        if wanted.is_over:
            console.tell(f"nothing to do: {name} was removed before")
            return
        _warn_of_the_pool(wanted)
        attached = removing(wanted)
        executed = execute.run(wanted.request, wanted.fleet, [lock], done, attached)
        has_left = not executed.failures or _are_only_keys_left(wanted.fleet, executed.outcome)
        if not has_left:
            raise RolloutError(f"{name} is not removed yet: {executed.why}", _how_to_go_on(wanted))
        if wanted.machine and wanted.named:
            step, _ = wanted.written()
            lock.require()
            wanted.after.save()
            console.tell(f"removed {name} from {path}")
            done.append(step)
        if executed.failures:
            raise RolloutError(*_of_keys_left(wanted, executed.why))
    _warn_of_the_key(wanted)
    if attached and (text := attached.about_port_80(name)):
        console.warn(text)
    conclusion.report_outcome(wanted.fleet, executed, execute.wait_until_settled(wanted.after, now))


def _how_to_go_on(wanted: Leaving) -> str:
    if wanted.machine and not wanted.named:
        # The issuer may no longer know it.
        return (
            f"add {wanted.name} with its address {wanted.machine.address} to {wanted.file} "
            "again, fix this, then run the same command again"
        )
    return "fix this, then run the same command again"


def _are_only_keys_left(fleet: Fleet, outcome: Outcome) -> bool:
    return not outcome.unreached and outcome.failed == {fleet.issuer_name: operations.REPLACE_KEYS}


def _of_keys_left(wanted: Leaving, why: str) -> tuple[str, str]:
    """Return error and hint for a backend that is removed while its keys are not all replaced.

    It is out of the fleet file by then, or the next deploy would bring it back.
    """
    path = shlex.quote(str(wanted.file))
    again = f"certsync remove-backend {path} {wanted.name} --gone --compromised"
    return (
        f"{wanted.name} is removed, but its keys are not all replaced yet: {why}",
        f"the hourly run retries this by itself; to retry now: {again}",
    )


def _warn_of_the_pool(wanted: Leaving) -> None:
    if wanted.machine and wanted.fleet.balancer.provider is Provider.NONE:
        console.warn(
            f"remove {wanted.name} from your provider's pools now: it still gets connections, and "
            f"stops serving in {wanted.options.drain_seconds} s"
        )


def _warn_of_the_key(wanted: Leaving) -> None:
    if wanted.options.gone and not wanted.options.compromised:
        command = f"certsync remove-backend {shlex.quote(str(wanted.file))} {wanted.name}"
        console.warn(
            f"the certificate's private key is still on {wanted.name}; if anybody else could get "
            f"it, replace the key and revoke the certificate: {command} --gone --compromised"
        )

"""`certsync deploy`: set up the fleet end to end, with progress and a final table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.operator.balancer import rules
from certsync.operator.deployment import conclusion, execute
from certsync.operator.deployment.attached import deploying
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.request import DeployRequest, Options
from certsync.operator.fleet_file import opened
from certsync.operator.hosts import caa, fleet_lock
from certsync.system import console, ssh


def plan(path: Path, options: Options) -> Plan:
    """Return what a deploy would do; nothing is changed and the CA is not asked.

    Raises:
        FleetFileError: the fleet file has mistakes.
        RefusedError: a host is not ours to change.
        HostError: a host cannot be reached.
    """
    file = opened(path)
    _warn_of_records(caa.look(file.fleet, ask_ca=False))
    attached = deploying(file.fleet, options)
    return execute.dry_run(DeployRequest(file, options), file.fleet, attached=attached)


def deploy(path: Path, options: Options, now: Callable[[], datetime], done: list[Step]) -> None:
    """Deploy a fleet file; print progress and the final table.

    ``done`` gets what was changed.

    Raises:
        FleetFileError: the fleet file has mistakes.
        RefusedError: a host is not ours to change; nothing was changed.
        LockHeldError: another run is changing the fleet.
        LaterError: everything before the certificate is done; the same command continues.
        ManagedError: the provider's balancer cannot be changed, or must not be.
        RolloutError: a host could not be deployed, or does not serve the certificate.
    """
    file = opened(path)
    fleet = file.fleet
    attached = deploying(fleet, options)
    # pyinfra connects, and CAA records are looked up, while the lock is being acquired; hosts are
    # surveyed only once it is held. The balancers' connections are for the status at the end.
    with ThreadPoolExecutor(1) as pool:
        records = pool.submit(caa.look, fleet)
        with (
            execute.started(DeployRequest(file, options)) as run,
            ssh.opened(fleet.balancers, fleet.known_hosts),
            fleet_lock.held(fleet, "deploy") as lock,
        ):
            _warn_of_records(records.result())
            executed = execute.resume(run, fleet, [lock], done, attached)
            shown = execute.wait_until_settled(file, now)
    conclusion.report_outcome(fleet, executed, shown, whole=True)
    _say_where(fleet, path)


def _warn_of_records(findings: Sequence[Finding]) -> None:
    """Warn of CAA records that would make the CA refuse an order; it decides, and may be asked."""
    for each in findings:
        console.warn(f"{each.text}; {each.hint}")


def _say_where(fleet: Fleet, path: Path) -> None:
    if text := rules.conclusion(fleet, path):
        console.result(text)
    if fleet.passthrough:
        first = fleet.lineages[0]
        page = "lb.html" if first.site.test_page else ""
        console.result(f"open https://{first.name}/{page}")
    else:
        console.result(
            "passthrough is off in the fleet file; to turn it on: certsync passthrough on FLEET"
        )

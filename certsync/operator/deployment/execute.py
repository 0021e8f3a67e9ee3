"""Run pyinfra over the fleet, or report what a run would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from time import monotonic, sleep

from certsync.model.errors import CertsyncError, HostError, RefusedError
from certsync.model.fleet import Fleet
from certsync.operator.balancer import checks, foreseen
from certsync.operator.deployment import operations, plan, progress
from certsync.operator.deployment.attached import Attached
from certsync.operator.deployment.dependents import completed
from certsync.operator.deployment.executed import Executed
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.request import DeployRequest
from certsync.operator.deployment.run import Run
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts.fleet_lock import Lock
from certsync.operator.watching import status
from certsync.operator.watching.status import Status
from certsync.system import console, ssh

NOT_YET = "one, if none exists: certsync is not installed on the issuer yet, so it cannot tell"
NOTHING_ELSE = (
    operations.ORDER, operations.REPLICATE, operations.SHARE_TICKETS, operations.PASSTHROUGH,
)  # fmt: skip
"""Operations that only deploy/site.py has."""

NO_HOSTS = "No hosts remaining!"
"""What pyinfra prints if it reaches no host at all."""

SETTLING_SECONDS = 10.0
"""A member that was down has to pass two checks, one per second; in a large fleet the first of them
comes later, see `checks.interval`."""


def dry_run(
    asked: DeployRequest,
    fleet: Fleet,
    absent: Sequence[str] = (),
    attached: Attached | None = None,
) -> Plan:
    """Return what a run would do; ``absent`` are operations that this run does not have.

    ``attached`` is the fleet's balancer at a provider; None: it has none that is driven.

    Raises:
        FleetFileError: one of the fleet's own templates has mistakes.
        RefusedError: a host is not ours to change.
        HostError: a host cannot be reached, so its steps are unknown.
        ManagedError: the provider's balancer would refuse, or cannot be asked.
    """
    run = Run(asked, dry=True)
    outcome = progress.follow(fleet, run)
    _raise_what_stopped(run, fleet, outcome)
    found = _planned(outcome, fleet, absent)
    if outcome.unreached or outcome.failed:
        console.result(found.text())
        executed = Executed(run, outcome)
        raise HostError(executed.why, "; ".join(dict.fromkeys(executed.hints)))
    if attached is None:
        return found
    found += attached.foreseen(changing=bool(found.steps))
    return replace(found, steps=tuple(sorted(found.steps, key=lambda each: each.phase)))


def _planned(outcome: Outcome, fleet: Fleet, absent: Sequence[str]) -> Plan:
    steps = completed(plan.planned(outcome.operations), fleet, absent)
    pools = [
        line
        for name, before, now in outcome.gates
        for line in foreseen.pools(name, before, now, fleet)
    ]
    return Plan(
        steps,
        tuple(outcome.files.values()),
        tuple(pools),
        _order(outcome, absent),
        tuple(outcome.scripts),
    )


def _order(outcome: Outcome, absent: Sequence[str]) -> str:
    if operations.ORDER in absent:
        return "none"
    if "issue" not in outcome.answers:
        return ""
    why = outcome.answers["issue"]
    return NOT_YET if why is None else "; ".join(why) or "none"


@contextmanager
def started(asked: DeployRequest) -> Iterator[Run]:
    """Let pyinfra connect to the hosts inside the block; the rest waits for `resume`.

    Raises:
        FleetFileError: the fleet file, or one of its templates, has mistakes.
    """
    run = Run(asked, dry=False)
    try:
        yield run
    finally:
        run.stop()


def resume(
    run: Run,
    fleet: Fleet,
    locks: Sequence[Lock],
    done: list[Step],
    attached: Attached | None = None,
) -> Executed:
    """Let pyinfra run the operations, and show progress; ``done`` gets what was changed.

    ``locks`` are the fleet locks held, on the issuer and maybe on other hosts. ``attached`` is the
    fleet's balancer at a provider; None: it has none that is driven.

    Raises:
        LockLostError: one of them is no longer held; the phase before was the last one.
        RefusedError: a host is not ours to change; nothing was changed.
        ManagedError: the provider's balancer cannot be changed; the run has stopped there.
        CertsyncError: pyinfra itself failed.
    """
    if attached is None:
        run.go_on(locks)
        outcome = _followed(run, fleet, done)
        return Executed(run, outcome)
    try:
        attached.begin(locks)
        run.go_on(locks, attached.before_phase)
        outcome = _followed(run, fleet, done)
        failed = attached.end(outcome, run.only)
    finally:
        done += attached.steps
    outcome.changed += attached.steps
    return Executed(run, outcome, tuple(failed))


def _followed(run: Run, fleet: Fleet, done: list[Step]) -> Outcome:
    try:
        outcome = progress.follow(fleet, run)
    finally:
        run.stop()
    done += outcome.changed
    _raise_what_stopped(run, fleet, outcome)
    return outcome


def run(
    asked: DeployRequest,
    fleet: Fleet,
    locks: Sequence[Lock],
    done: list[Step],
    attached: Attached | None = None,
) -> Executed:
    """Run pyinfra from start to end: see `resume`.

    Raises:
        FleetFileError: one of the fleet's own templates has mistakes.
        LockLostError, RefusedError, ManagedError, CertsyncError: see `resume`.
    """
    with started(asked) as child:
        return resume(child, fleet, locks, done, attached)


def wait_until_settled(file: FleetFile, now: Callable[[], datetime]) -> Status:
    """Return the status once no healed member is waiting for the balancer's checks."""
    later = checks.interval(file.fleet) - checks.SHORTEST
    end = monotonic() + SETTLING_SECONDS + later
    # One connection for all questions: `ufw limit` refuses the sixth within thirty seconds.
    hosts = (file.fleet.issuer, *file.fleet.balancers)
    with ssh.opened(hosts, file.fleet.known_hosts):
        while True:
            shown = status.status(file, now())
            if not shown.awaited or monotonic() > end:
                return shown
            sleep(0.5)


def _raise_what_stopped(run: Run, fleet: Fleet, outcome: Outcome) -> None:
    if outcome.refused:
        raise RefusedError(f"nothing was changed on any host:\n{outcome.refused}")
    if run.status != 0 and not outcome.failed and not outcome.unreached:
        if any(NO_HOSTS in line for line in run.output):
            # Then it stops before it reports anything.
            unreached = [each.name for each in fleet.machines if run.output_of(each.name)]
            executed = Executed(run, Outcome(tuple(unreached)))
            raise HostError(executed.why, "; ".join(executed.hints))
        words = [line for line in run.output if line.strip()]
        raise CertsyncError(f"pyinfra stopped: {' '.join(words[-6:])[-800:]}")

"""Run pyinfra over the fleet, or report what a run would do, and report how it ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from time import monotonic, sleep

from certsync.model.answers import PastRun
from certsync.model.errors import CertsyncError, HostError, LaterError, RefusedError, RolloutError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.model.options import Provider
from certsync.operator.balancer import checks, foreseen
from certsync.operator.deployment import operations, plan, progress
from certsync.operator.deployment.dependents import completed
from certsync.operator.deployment.plan import Plan, Step
from certsync.operator.deployment.progress import Outcome
from certsync.operator.deployment.request import DeployRequest
from certsync.operator.deployment.run import Run
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts.fleet_lock import Lock
from certsync.operator.watching import status
from certsync.operator.watching.status import Status
from certsync.system import console, ssh

AGAIN = "fix this, then run the same command again"
IN_SERVICE = f"the rest of the fleet is in service; {AGAIN}"
"""The hint if no step printed a better one."""

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


@dataclass(frozen=True)
class Executed:
    """How a run ended."""

    run: Run
    outcome: Outcome

    @property
    def failures(self) -> list[Finding]:
        """Return what failed on which host."""
        failed = [Finding(name, _why(self.run, name)) for name in self.outcome.unreached]
        return failed + [
            Finding(name, f"{what}: {_why(self.run, name)}")
            for name, what in self.outcome.failed.items()
        ]

    @property
    def why(self) -> str:
        """The failures as text."""
        return "; ".join(map(str, self.failures))

    @property
    def hints(self) -> list[str]:
        """Return the hints that failed hosts printed.

        If they differ between hosts, each is prefixed with its host.
        """
        names = dict.fromkeys((*self.outcome.unreached, *self.outcome.failed))
        found = {
            name: dict.fromkeys(_of_kind("hint: ", self.run.output_of(name))) for name in names
        }
        kinds = [hints for hints in found.values() if hints]
        if all(hints == kinds[0] for hints in kinds):
            return [hint for hints in kinds[:1] for hint in hints]
        return [f"{name}: {hint}" for name, hints in found.items() for hint in hints]


def dry_run(asked: DeployRequest, fleet: Fleet, absent: Sequence[str] = ()) -> Plan:
    """Return what pyinfra would do; ``absent`` are operations that this run does not have.

    Raises:
        FleetFileError: one of the fleet's own templates has mistakes.
        RefusedError: a host is not ours to change.
        HostError: a host cannot be reached, so its steps are unknown.
    """
    run = Run(asked, dry=True)
    outcome = progress.follow(fleet, run)
    _raise_what_stopped(run, fleet, outcome)
    steps = completed(plan.planned(outcome.operations), fleet, absent)
    pools = [
        line
        for name, before, now in outcome.gates
        for line in foreseen.pools(name, before, now, fleet)
    ]
    found = Plan(
        steps,
        tuple(outcome.files.values()),
        tuple(pools),
        _order(outcome, absent),
        tuple(outcome.scripts),
    )
    if outcome.unreached or outcome.failed:
        console.result(found.text())
    if outcome.unreached or outcome.failed:
        executed = Executed(run, outcome)
        raise HostError(executed.why, "; ".join(dict.fromkeys(executed.hints)))
    return found


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


def resume(run: Run, fleet: Fleet, locks: Sequence[Lock], done: list[Step]) -> Executed:
    """Let pyinfra run the operations, and show progress; ``done`` gets what was changed.

    ``locks`` are the fleet locks held, on the issuer and maybe on other hosts.

    Raises:
        LockLostError: one of them is no longer held; the phase before was the last one.
        RefusedError: a host is not ours to change; nothing was changed.
        CertsyncError: pyinfra itself failed.
    """
    run.go_on(locks)
    try:
        outcome = progress.follow(fleet, run)
    finally:
        run.stop()
    done += outcome.changed
    _raise_what_stopped(run, fleet, outcome)
    return Executed(run, outcome)


def run(asked: DeployRequest, fleet: Fleet, locks: Sequence[Lock], done: list[Step]) -> Executed:
    """Run pyinfra from start to end: see `resume`.

    Raises:
        FleetFileError: one of the fleet's own templates has mistakes.
        LockLostError, RefusedError, CertsyncError: see `resume`.
    """
    with started(asked) as child:
        return resume(child, fleet, locks, done)


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


def report_outcome(
    fleet: Fleet,
    executed: Executed,
    shown: Status,
    expected: Collection[tuple[str, str]] = (),
    *,
    whole: bool = False,
) -> None:
    """Print the table, and report what failed or is wrong.

    ``expected`` are the findings, as host and lineage, that are known and no failure of this run.
    ``whole``: the run was for the whole fleet file, not for one change.

    Raises:
        LaterError: everything before the certificate is done; the same command continues.
        RolloutError: a host could not be deployed, or does not serve the certificate.
    """
    console.result(shown.text())
    count = len(executed.outcome.changed)
    console.tell("1 change" if count == 1 else f"{count} changes")
    noted = _noted(fleet, executed.outcome, shown)
    if noted and noted.exit == LaterError.exit_status:
        raise LaterError(noted.error, noted.hint)
    others = [*shown.past, *([] if whole else shown.without_client_address)]
    for text in others:
        console.warn(str(text))
    wrong = [*executed.failures, *(each for each in shown.findings if each not in others)]
    lacking = _not_ordered(fleet, executed.outcome, shown)
    if lacking and lacking.exit == LaterError.exit_status:
        # The lineage's row in the table follows from the missing certificate.
        raise LaterError("; ".join([lacking.error, *map(str, wrong)]), lacking.hint)
    if lacking:
        wrong.append(Finding(fleet.issuer_name, lacking.error))
    if unexpected(wrong, expected):
        own = [each.hint for each in (noted, lacking) if each] + executed.hints
        particular = "; ".join(dict.fromkeys(hint for hint in own if hint))
        general = IN_SERVICE if _in_service(fleet, shown) else AGAIN
        raise RolloutError("; ".join(map(str, wrong)), particular or general)


def unexpected(wrong: Sequence[Finding], expected: Collection[tuple[str, str]]) -> list[Finding]:
    """Return the findings that were not expected."""
    return [each for each in wrong if each.about not in expected]


def _in_service(fleet: Fleet, shown: Status) -> bool:
    """Return whether at least one backend serves, and gets the balancer's traffic."""
    proven = [row for row in shown.rows if row.proven]
    if fleet.passthrough and fleet.balancer.provider is Provider.NONE:
        return any(row.name in fleet.public_addresses for row in proven)
    # With several balancers, each one's name precedes its answer.
    words = [f": {row.pool}," for row in proven]
    return any(not fleet.passthrough or ": yes," in each for each in words)


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


def _noted(fleet: Fleet, outcome: Outcome, shown: Status) -> PastRun | None:
    """Return the issuer's record of its own failed step: exit status, error and hint."""
    verb = operations.ISSUER_VERBS.get(outcome.failed.get(fleet.issuer_name, ""), "")
    return shown.proven.runs.get(verb)


def _not_ordered(fleet: Fleet, outcome: Outcome, shown: Status) -> PastRun | None:
    """Return the issuer's record of failed orders in a run that continued.

    With several lineages, a failed order for one does not stop the others.
    """
    ordered = (fleet.issuer_name, operations.ORDER)
    if not any((each.host, each.what) == ordered for each in outcome.changed):
        return None
    noted = shown.proven.runs.get("issue")
    return noted if noted and noted.error else None


def _why(run: Run, name: str) -> str:
    """Return one line that says why a host failed: ours, dpkg's, apt's, or the first one."""
    output = run.output_of(name)
    errors = [*_of_kind("error: ", output), *_of_dpkg(output), *_of_kind("E: ", output)]
    return (errors or output or ["no reason was given"])[0]


def _of_dpkg(lines: Sequence[str]) -> list[str]:
    """Return dpkg's errors, each joined with its reason, which is on the following line."""
    return [
        f"{line.removesuffix(':')}: {why}" if line.endswith(":") and why else line
        for line, why in zip_longest(lines, lines[1:], fillvalue="")
        if line.startswith("dpkg: error processing ")
    ]


def _of_kind(kind: str, lines: Sequence[str]) -> list[str]:
    return [line.removeprefix(kind) for line in lines if line.startswith(kind)]

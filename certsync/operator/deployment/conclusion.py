"""What a command says at its end: the table, and what failed or is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from certsync.model.answers import PastRun
from certsync.model.errors import LaterError, RolloutError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet
from certsync.model.options import Provider
from certsync.operator.deployment import operations
from certsync.operator.deployment.executed import Executed
from certsync.operator.deployment.progress import Outcome
from certsync.operator.watching.status import Status
from certsync.system import console

AGAIN = "fix this, then run the same command again"
IN_SERVICE = f"the rest of the fleet is in service; {AGAIN}"
"""The hint if no step printed a better one."""


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
    if fleet.passthrough and fleet.balancer.provider is not Provider.HAPROXY:
        return any(row.name in fleet.public_addresses for row in proven)
    # With several balancers, each one's name precedes its answer.
    words = [f": {row.pool}," for row in proven]
    return any(not fleet.passthrough or ": yes," in each for each in words)


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

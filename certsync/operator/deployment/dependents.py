"""Steps that a run takes only because of earlier steps; a dry run lists them as depending. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certsync.model.fleet import Fleet
from certsync.operator.deployment import operations
from certsync.operator.deployment.operations import Phase
from certsync.operator.deployment.plan import Step


@dataclass(frozen=True)
class Dependent:
    """An operation of deploy/ that may get work from earlier operations of the run."""

    phase: Phase
    what: str
    role: str
    """The hosts it runs on: `issuer`, `replicas`, `backends` or `balancers`."""

    upstream: frozenset[str]
    """Operations that give it work; for those named per lineage, the part before ` of `."""

    why: str

    def follows(self, what: str) -> bool:
        """Return whether an operation gives work to this one."""
        return any(what == each or what.startswith(f"{each} of ") for each in self.upstream)


DEPENDENTS = (
    Dependent(
        operations.CONFIGURATION, operations.HAPROXY, "balancers",
        frozenset({operations.DROP_OUTGOING}), "what has been written by then",
    ),
    Dependent(
        operations.ADMISSION, operations.ACCEPTED_KEY, "replicas",
        frozenset({operations.PUSH_KEY}), "the new push key",
    ),
    Dependent(
        operations.CERTIFICATE, operations.ORDER, "issuer",
        frozenset({operations.INSTALLED, operations.RENDERED_FLEET}),
        "whether one is due for the new fleet file",
    ),
    Dependent(
        operations.REPLICATION, operations.REPLICATE, "issuer",
        frozenset({
            operations.ORDER, operations.RENDERED_FLEET, operations.ACCEPTED_KEY, operations.NGINX,
            operations.PLACEHOLDER, operations.TAKE_OVER,
        }),
        "which backends lack the generation by then",
    ),
    Dependent(
        operations.REPLICATION, operations.SHARE_TICKETS, "issuer",
        frozenset({
            operations.REPLICATE, operations.RENDERED_FLEET, operations.ACCEPTED_KEY,
            operations.NGINX, operations.TICKET_KEYS, operations.TICKETS_INBOX,
        }),
        "which backends lack the keys by then",
    ),
    Dependent(
        operations.PASSING, operations.PASSTHROUGH, "balancers",
        frozenset({operations.REPLICATE, operations.HAPROXY, operations.NGINX}),
        "what is proven by then",
    ),
)  # fmt: skip


def completed(steps: Sequence[Step], fleet: Fleet, absent: Iterable[str] = ()) -> tuple[Step, ...]:
    """Return a deploy's steps, plus those that depend on the outcome of others in the same run.

    ``absent`` are operations that this run does not have. pyinfra's forecast of a dependent
    operation describes the present, so it is replaced.
    """
    found = list(steps)
    for each in DEPENDENTS:
        moved = any(each.follows(step.what) for step in found)
        is_off = each.what == operations.SHARE_TICKETS and not fleet.share_tickets
        if not moved or each.what in absent or is_off:
            continue
        names = {*_of_role(fleet, each.role)} | {x.host for x in found if x.what == each.what}
        found = [step for step in found if step.what != each.what]
        found += [Step(str(each.phase), name, each.what, each.why) for name in sorted(names)]
    return tuple(sorted(found, key=lambda step: step.phase))


def _of_role(fleet: Fleet, role: str) -> list[str]:
    machines = {
        "issuer": (fleet.issuer,),
        "replicas": fleet.replicas,
        "balancers": fleet.balancers,
    }[role]
    return [machine.name for machine in machines]

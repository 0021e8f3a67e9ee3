"""What a host's part of a run needs from the other hosts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api import Host, State, StringCommand, operation

from certsync.operator.hosts.survey import Survey
from deploy import surveys
from deploy.carried_out import Commands


def seen(hosts: Iterable[Host]) -> dict[str, Survey]:
    """Return the surveys of the reached hosts, by name."""
    return {each.name: surveys.of(each) for each in hosts if each.connected}


def of_issuer(issuer: Host) -> Survey:
    """Return the issuer's survey; an empty one if it was not reached or has failed."""
    if not issuer.connected or issuer not in issuer.state.active_hosts:
        return Survey()
    return surveys.of(issuer)


def _failing(text: str) -> StringCommand:
    """Return a command that only fails with this message.

    An exception would end the run for all hosts; a failed command only ends it for this one.
    """
    return StringCommand(f"printf '%s\\n' {shlex.quote(text)} >&2; exit 1")


@operation()
def require_taken_over(state: State, other: Host) -> Commands:
    """Stop on a host unless the new issuer has done its part so far."""
    if other not in state.active_hosts:
        yield _failing(f"{other.name} has not taken over: this host is not changed any further")


@operation()
def require_released(state: State, others: Sequence[Host]) -> Commands:
    """Stop on a host unless the others have stopped using it.

    A balancer might still send it connections, or the issuer a key.
    """
    if left := [each.name for each in others if each not in state.active_hosts]:
        yield _failing(f"{', '.join(left)} may still use this host: nothing is changed here")

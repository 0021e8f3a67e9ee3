"""What one host's part of a run needs to know about the other hosts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from pyinfra.api import Host, State, StringCommand, operation

from certsync.operator.hosts.survey import Survey
from deploy import surveys
from deploy.carried_out import Commands


def seen(hosts: Iterable[Host]) -> dict[str, Survey]:
    """Return what those hosts are like that this run has reached, by their names."""
    return {each.name: surveys.of(each) for each in hosts if each.connected}


def of_issuer(issuer: Host) -> Survey:
    """Return what the issuer is like; nothing is known if it is not reached, or has failed."""
    if not issuer.connected or issuer not in issuer.state.active_hosts:
        return Survey()
    return surveys.of(issuer)


def _failing(text: str) -> StringCommand:
    """Return a command that does nothing but fail with these words.

    An exception would end the run for all hosts; a failed command ends it for this one.
    """
    return StringCommand(f"printf '%s\\n' {shlex.quote(text)} >&2; exit 1")


@operation()
def require_taken_over(state: State, other: Host) -> Commands:
    """Go no further on a host unless the new issuer has done its part so far."""
    if other not in state.active_hosts:
        yield _failing(f"{other.name} has not taken over: nothing more is changed here")


@operation()
def require_released(state: State, others: Sequence[Host]) -> Commands:
    """Go no further where a backend leaves, unless the others no longer know it.

    A balancer may send it connections still, or the issuer a key.
    """
    if left := [each.name for each in others if each not in state.active_hosts]:
        yield _failing(f"{', '.join(left)} did not let it go: nothing is changed here")

"""What certsync on the issuer does in a deploy: order, replicate and prove the certificate."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator
from typing import Any

from pyinfra import host
from pyinfra.api import Host, State, StringCommand, deploy, operation

from certsync.model.paths import CERTSYNC, CURRENT
from certsync.operator.deployment import operations
from deploy import answers, surveys
from deploy.progress import event, is_dry, token


@deploy("Issuer: certificate")
def issue() -> None:
    """Order a certificate, if one is due."""
    issuer_command(name=operations.ORDER, verb="issue")


@deploy("Issuer: certbot's certificate")
def take_over() -> None:
    """Keep certbot's certificate as a generation, unless that is done already."""
    issuer_command(name=operations.TAKE_OVER, verb="take-over")


@deploy("Issuer: replicate and prove")
def replicate(state: State, may_be_unreachable: list[Host]) -> None:
    """Activate the certificate on every backend, and prove that each serves it.

    Hosts in ``may_be_unreachable`` that this run did not reach, or that failed, may stay behind: a
    promotion does not wait for a host that is off.
    """
    issuer_command(
        name=operations.REPLICATE, verb=lambda: _but("replicate", state, may_be_unreachable)
    )


@deploy("Issuer: session ticket keys")
def share_tickets(state: State, may_be_unreachable: list[Host]) -> None:
    """Share the session ticket keys among all backends.

    ``may_be_unreachable``: as above.
    """
    issuer_command(
        name=operations.SHARE_TICKETS, verb=lambda: _but("tickets", state, may_be_unreachable)
    )


def _but(verb: str, state: State, may_be_unreachable: list[Host]) -> str:
    missed = [each.name for each in may_be_unreachable if each not in state.active_hosts]
    return " ".join([verb, *(f"--missed {shlex.quote(name)}" for name in missed)])


@deploy("Issuer: compromised keys")
def compromised(name: str) -> None:
    """Replace every key that a removed backend may have, and revoke the certificates."""
    issuer_command(name=operations.REPLACE_KEYS, verb=f"compromised --by {shlex.quote(name)}")


@deploy("Issuer: account")
def register() -> None:
    """Register an account of the new issuer's own at the CA."""
    issuer_command(name="Register an account", verb="register")


@deploy("Issuer: account")
def close_account() -> None:
    """Deactivate a former issuer's account at the CA."""
    issuer_command(name="Deactivate the account", verb="close-account", where_installed=True)


@operation()
def issuer_command(
    verb: str | Callable[[], str], *, where_installed: bool = False
) -> Generator[Any, None, None]:
    """Run a certsync command on the issuer, unless it says that there is nothing to do.

    ``where_installed``: skip it if an interrupted run has removed certsync already.
    """
    if where_installed and not surveys.of(host).has(CURRENT):
        host.noop("certsync is no longer installed here")
        return
    verb = verb if isinstance(verb, str) else verb()
    steps = answers.steps(host, verb)
    if is_dry():
        event("answer", host=host.name, name=verb, steps=steps)
    if steps == []:
        host.noop(f"certsync {verb}: nothing to do")
        return
    answers.forget()
    yield StringCommand(f"{CERTSYNC} {verb} --lock-token {shlex.quote(token(host.name))}")

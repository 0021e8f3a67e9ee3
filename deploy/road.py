"""The certificate's own road: ordered, carried, proven by certsync on the issuer."""

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


@deploy("Issuer: certificate of certbot's")
def take_over() -> None:
    """Keep certbot's certificate as a generation, unless it is kept."""
    issuer_command(name=operations.TAKE_OVER, verb="take-over")


@deploy("Issuer: replicate and prove")
def replicate(state: State, may_be_unreachable: list[Host]) -> None:
    """Bring the certificate to every backend, and prove that each one serves it.

    Those of ``may_be_unreachable`` that this run has not reached, or has failed on, may be behind:
    a role that moves does not wait for a host that is off.
    """
    issuer_command(
        name=operations.REPLICATE, verb=lambda: _but("replicate", state, may_be_unreachable)
    )


@deploy("Issuer: session ticket keys")
def share_tickets(state: State, may_be_unreachable: list[Host]) -> None:
    """Have every backend resume the TLS sessions of the others.

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
    """Replace every key that a backend which left may have, and have its certificates revoked."""
    issuer_command(name=operations.REPLACE_KEYS, verb=f"compromised --by {shlex.quote(name)}")


@deploy("Issuer: account")
def register() -> None:
    """Have an account at the CA, of the new issuer's own."""
    issuer_command(name="Register an account", verb="register")


@deploy("Issuer: account")
def close_account() -> None:
    """Deactivate a former issuer's account at the CA."""
    issuer_command(name="Deactivate the account", verb="close-account", where_installed=True)


@operation()
def issuer_command(
    verb: str | Callable[[], str], *, where_installed: bool = False
) -> Generator[Any, None, None]:
    """Run one of certsync's commands on the issuer, unless it says that nothing is to be done.

    ``where_installed``: nor where certsync is gone already, because a run was cut off after that.
    """
    if where_installed and not surveys.of(host).has(CURRENT):
        host.noop("no certsync here any more")
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

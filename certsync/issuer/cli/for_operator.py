"""The commands that the operator's machine runs on the issuer; people do not need them."""

from __future__ import annotations

import click

from certsync.issuer.cli.output import tell_outlook, the_store
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, TOKEN, cli, now


@cli.command(hidden=True)
@click.argument("verbs", nargs=-1)
def outlook(verbs: tuple[str, ...]) -> None:
    """Report in JSON what these verbs would do, for a deploy."""
    from certsync.issuer.commands import outlook as verb
    from certsync.issuer.session import require_root

    require_root()
    if not set(verbs) <= set(verb.VERBS):
        raise click.UsageError(f"choose from {', '.join(verb.VERBS)}")
    console.result_json(verb.outlook(the_store(), now(), verbs))


@cli.command("take-over", hidden=True)
@DRY
@AS_JSON
@TOKEN
def take_over(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Keep certbot's certificate as a generation."""
    from certsync.issuer.commands import take_over as verb
    from certsync.issuer.session import on_issuer, reading

    if dry_run:
        run = reading(the_store(), now()).only()
        tell_outlook(verb.look(run.seen, run.now).steps(), as_json, "")
        return
    with on_issuer(the_store(), "take-over", lock_token, now()) as session:
        number = verb.take_over(session.only())
        if number is None:
            console.tell("certbot's certificate has been taken over already")
        else:
            session.done.append(f"took over certbot's certificate as generation {number:04}")


@cli.command("retire-certbot", hidden=True)
@TOKEN
def retire_certbot(lock_token: str) -> None:
    """Stop certbot from renewing the fleet's certificate."""
    from certsync.issuer.commands import take_over as verb
    from certsync.issuer.session import on_issuer

    with on_issuer(the_store(), "retire-certbot", lock_token, now()) as session:
        lines = verb.retire_certbot(session.only().seen, session.now)
        session.done.extend(lines[:1])
        if lines:
            console.result("\n".join(lines))


@cli.command("rehearse-here", hidden=True)
@click.option("--directory", required=True)
@TOKEN
def rehearse_here(directory: str, lock_token: str) -> None:
    """Run the issuer's part of `certsync rehearse`."""
    from certsync.issuer.commands import rehearse_here as verb
    from certsync.issuer.session import locked

    with locked("rehearse-here", lock_token):
        findings = verb.rehearse_here(the_store(), directory, now(), console.tell)
    console.result_json({"findings": [each.to_json() for each in findings]})


@cli.command(hidden=True)
@click.option(
    "--by", "backend", required=True, metavar="BACKEND", help="The backend that may hold the keys."
)
@DRY
@AS_JSON
@TOKEN
def compromised(backend: str, dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Replace, revoke and delete every key that BACKEND may hold.

    It must have been removed from the fleet; its private keys are compromised.
    """
    from certsync.issuer import replacement as verb
    from certsync.issuer.memory import Memory
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.situation import look_at_all, named

    store = the_store()
    if dry_run:
        require_root()
        state, moment = Memory(store).state_or_nothing, now()
        steps = named(
            look_at_all(store),
            lambda one: verb.outlook(one, state.lineage(one.name), moment, backend).steps(),
        )
        tell_outlook(steps, as_json, "")
        return

    with on_issuer(store, "compromised", lock_token, now()) as session:
        verb.everywhere(session, backend)
        console.result("\n".join(session.done) or "nothing to do")


@cli.command(hidden=True)
@DRY
@AS_JSON
@TOKEN
def register(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On a new issuer: register at the CA, and withdraw what may have been rolled back."""
    from certsync.issuer.commands import register as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(store).steps(), as_json, "")
        return
    with on_issuer(store, "register", lock_token, now()) as session:
        console.result(f"account {verb.register(session)}")


@cli.command("close-account", hidden=True)
@DRY
@AS_JSON
@TOKEN
def close_account(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On a former issuer: deactivate its account at the CA, and remove the account's key."""
    from certsync.issuer.commands import close_account as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(store), as_json, "")
        return
    with on_issuer(store, "close-account", lock_token, now()) as session:
        verb.close_account(session)
        console.result("\n".join(session.done) or "nothing to do")

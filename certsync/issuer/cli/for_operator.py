"""What the operator's machine has the issuer do; people need none of it."""

from __future__ import annotations

import click

from certsync.issuer.cli.output import tell_outlook, the_store
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, TOKEN, cli, now


@cli.command(hidden=True)
@click.argument("verbs", nargs=-1)
def outlook(verbs: tuple[str, ...]) -> None:
    """Say in JSON what these verbs would do, for a deploy."""
    from certsync.issuer.commands import outlook as verb
    from certsync.issuer.session import require_root

    require_root()
    if not set(verbs) <= set(verb.VERBS):
        raise click.UsageError(f"it can tell of {', '.join(verb.VERBS)}")
    console.result_json(verb.outlook(the_store(), now(), verbs))


@cli.command("take-over", hidden=True)
@DRY
@AS_JSON
@TOKEN
def take_over(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Keep the certificate that certbot has as a generation."""
    from certsync.issuer.commands import take_over as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.look(store, now()).steps(), as_json, "")
        return
    with on_issuer(store, "take-over", lock_token, now()) as done:
        number = verb.take_over(store, now(), console.tell)
        if number is None:
            console.tell("certbot's certificate is kept already")
        else:
            done.append(f"took over certbot's certificate as generation {number:04}")


@cli.command("retire-certbot", hidden=True)
@TOKEN
def retire_certbot(lock_token: str) -> None:
    """Have certbot no longer renew the fleet's certificate."""
    from certsync.issuer.commands import take_over as verb
    from certsync.issuer.session import on_issuer

    store = the_store()
    with on_issuer(store, "retire-certbot", lock_token, now()) as done:
        told = verb.retire_certbot(store, now())
        done.extend(told[:1])
        if told:
            console.result("\n".join(told))


@cli.command("rehearse-here", hidden=True)
@click.option("--directory", required=True)
@TOKEN
def rehearse_here(directory: str, lock_token: str) -> None:
    """What `certsync rehearse` does there."""
    from certsync.issuer.commands import rehearse_here as verb
    from certsync.issuer.session import locked

    with locked("rehearse-here", lock_token):
        findings = verb.rehearse_here(the_store(), directory, now(), console.tell)
    console.result_json({"findings": [each.to_json() for each in findings]})


@cli.command(hidden=True)
@click.option("--by", "backend", required=True, metavar="BACKEND", help="Who may hold the keys.")
@DRY
@AS_JSON
@TOKEN
def compromised(backend: str, dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Replace, revoke and delete every key that BACKEND may hold.

    It has been taken out of the fleet, and its private keys are compromised.
    """
    from certsync.issuer import replacement as verb
    from certsync.issuer.lineages import named
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        steps = named(store, lambda one: verb.outlook(one, now(), backend).steps())
        tell_outlook(steps, as_json, "")
        return

    with on_issuer(store, "compromised", lock_token, now()) as done:
        verb.everywhere(store, now, console.tell, done, backend)
        console.result("\n".join(done) or "nothing to do")


# The names of these two stay: an operator's machine and an issuer may be of two versions.


@cli.command("enroll", hidden=True)
@DRY
@AS_JSON
@TOKEN
def register(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On a new issuer: have an account at the CA, and withdraw what may have been rolled back."""
    from certsync.issuer.commands import register as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(store).steps(), as_json, "")
        return
    with on_issuer(store, "enroll", lock_token, now()) as done:
        console.result(f"account {verb.register(store, now(), console.tell, done)}")


@cli.command("resign", hidden=True)
@DRY
@AS_JSON
@TOKEN
def close_account(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On an old issuer: end its account at the CA, and remove the account's key."""
    from certsync.issuer.commands import close_account as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(store), as_json, "")
        return
    with on_issuer(store, "resign", lock_token, now()) as done:
        verb.close_account(store, console.tell, done)
        console.result("\n".join(done) or "nothing to do")

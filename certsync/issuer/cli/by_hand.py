"""The commands that people and cron run on the issuer."""

from __future__ import annotations

import sys

import click

from certsync.issuer.cli.output import tell_outlook, the_store
from certsync.model.errors import CertsyncError, LockHeldError, NotifyError, WrongError
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, TOKEN, cli, now


@cli.command()
@DRY
@AS_JSON
@click.option("--force", is_flag=True, help="Order a certificate even if none is due.")
def renew(dry_run: bool, as_json: bool, force: bool) -> None:
    """Finish interrupted work, heal, prove, and renew what is due; runs hourly."""
    from certsync.issuer import next_run
    from certsync.issuer.commands import renew as verb
    from certsync.issuer.memory import Memory
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.situation import look_at_all

    store = the_store()
    if dry_run:
        require_root()
        outlook = next_run.outlook(look_at_all(store), Memory(store), now(), force=force)
        if as_json:
            console.result_json(outlook.to_json())
        else:
            console.result("\n".join(next_run.described(outlook)) or "nothing to do")
        return
    with on_issuer(store, "renew", "", now()) as session:
        verb.renew(session, force=force)
        console.result("\n".join(session.done) or "nothing was due")


@cli.command()
@DRY
@AS_JSON
@click.option("--lineage", default="", metavar="NAME", help="Which lineage, if there are several.")
def rollback(dry_run: bool, as_json: bool, lineage: str) -> None:
    """Make every backend serve the previous generation, and withdraw the current one."""
    from certsync.issuer.commands import rollback as verb
    from certsync.issuer.session import on_issuer, reading

    run = reading(the_store(), now()).only(lineage)
    if dry_run:
        tell_outlook(verb.way(run.seen, run.now).steps(), as_json, "")
        return
    with on_issuer(the_store(), "rollback", "", now()) as session:
        verb.rollback(session.only(lineage))
        console.result("\n".join(session.done))


@cli.command()
@DRY
@AS_JSON
@TOKEN
def issue(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Order a certificate, if one is due."""
    from certsync.issuer.ca import due
    from certsync.issuer.ca import ordering as verb
    from certsync.issuer.memory import Memory
    from certsync.issuer.run import Run
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.situation import look_at_all, named

    store = the_store()
    if dry_run:
        require_root()
        memory, moment = Memory(store), now()
        steps = named(
            look_at_all(store), lambda one: due.outlook(one, memory.of(one.name), moment).reasons
        )
        tell_outlook(steps, as_json, "needed: ")
        return

    def work(run: Run) -> None:
        number = verb.issue(run)
        if number is None:
            run.tell("nothing to order: a valid certificate for these names exists")
        else:
            run.did(f"ordered generation {number:04}")

    try:
        with on_issuer(store, "issue", lock_token, now()) as session:
            session.each(work)
    except LockHeldError:
        raise
    except CertsyncError as error:
        if not (lock_token and due.has_something(look_at_all(store))):
            raise
        # A deploy continues with the certificates that exist; the failure is recorded by now.
        console.warn(f"{error.message}; {error.hint}" if error.hint else error.message)


@cli.command()
@DRY
@AS_JSON
@TOKEN
@click.option("--missed", multiple=True, hidden=True)
def replicate(dry_run: bool, as_json: bool, lock_token: str, missed: tuple[str, ...]) -> None:
    """Activate the newest generation on every backend, and prove that each serves it."""
    from certsync.issuer.replicas import replicate as verb
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.situation import look_at_all, named

    store = the_store()
    if dry_run:
        require_root()
        moment = now()
        steps = named(look_at_all(store), lambda one: verb.outlook(one, moment))
        tell_outlook(steps, as_json, "")
        return
    with on_issuer(store, "replicate", lock_token, now()) as session:
        verb.replicate_all(session, missed)


@cli.command()
@DRY
@AS_JSON
@TOKEN
@click.option("--rotate", is_flag=True, help="Rotate the keys now, even if not due.")
@click.option("--missed", multiple=True, hidden=True)
def tickets(
    dry_run: bool, as_json: bool, lock_token: str, rotate: bool, missed: tuple[str, ...]
) -> None:
    """Share TLS session ticket keys among all backends.

    The hourly run rotates them once a day.
    """
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.situation import look_at_all
    from certsync.issuer.tickets import share as verb

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(look_at_all(store), now(), rotate=rotate), as_json, "")
        return
    with on_issuer(store, "tickets", lock_token, now()) as session:
        verb.tickets(session, rotate=rotate, missed=missed)
        console.result("\n".join(session.done) or "nothing to do")


@cli.command()
@AS_JSON
def prove(as_json: bool) -> None:
    """Probe every backend, and show what each one serves."""
    from certsync.issuer.memory import Memory
    from certsync.issuer.replicas import prove as verb
    from certsync.issuer.session import require_root
    from certsync.issuer.situation import look_at_all
    from certsync.model import report

    require_root()
    store = the_store()
    seen = verb.prove(look_at_all(store), Memory(store), now())
    if as_json:
        console.result_json(seen.to_json())
    else:
        rows = [report.row(proof, "", seen.at) for proof in seen.rows]
        console.result(report.table(rows))
    if not seen.all_in_sync:
        raise WrongError("not every backend serves the current generation")


@cli.command()
@click.option("--set", "setting", is_flag=True, help="Read the URLs to notify, one per line.")
@click.option("--test", "testing", is_flag=True, help="Send a test message to each URL.")
def notify(setting: bool, testing: bool) -> None:
    """Set where notifications go, or send a test message."""
    from certsync.issuer.commands import notify as verb
    from certsync.issuer.session import require_root

    if setting is testing:
        raise click.UsageError("give either --set or --test")
    require_root()
    if setting:
        if sys.stdin.isatty():
            console.tell("type apprise URLs, one per line, then press Ctrl-D")
        console.result(verb.set_urls(the_store(), sys.stdin.buffer.read()))
        return
    shown, refused = verb.test(the_store())
    console.result(shown)
    if refused:
        raise NotifyError(
            f"not every service accepted the test message: {', '.join(refused)}",
            "is its URL right, and can the issuer connect to it?",
        )

"""What a person or cron runs on the issuer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from certsync.issuer.cli.output import tell_outlook, the_store
from certsync.model.errors import CertsyncError, LockHeldError, NotifyError, WrongError
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, TOKEN, cli, now

if TYPE_CHECKING:
    # Its libraries are loaded when a verb is called, not for `--help`.
    from certsync.issuer.store import Store


@cli.command()
@DRY
@AS_JSON
@click.option("--force", is_flag=True, help="Order a certificate though none is due.")
def renew(dry_run: bool, as_json: bool, force: bool) -> None:
    """Finish, heal, prove, and renew what is due: every hour, by cron or a timer."""
    from certsync.issuer import next_run
    from certsync.issuer.commands import renew as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        outlook = next_run.outlook(store, now(), force=force)
        if as_json:
            console.result_json(outlook.to_json())
        else:
            console.result("\n".join(next_run.described(outlook)) or "nothing to do")
        return
    with on_issuer(store, "renew", "", now()) as done:
        verb.renew(store, now(), console.tell, done, force=force)
        console.result("\n".join(done) or "nothing was due")


@cli.command()
@DRY
@AS_JSON
@click.option("--lineage", default="", metavar="NAME", help="Which one, where there are several.")
def rollback(dry_run: bool, as_json: bool, lineage: str) -> None:
    """Let every backend serve the generation before, and withdraw this one."""
    from certsync.issuer.commands import rollback as verb
    from certsync.issuer.lineages import chosen
    from certsync.issuer.session import on_issuer, require_root

    require_root()
    store = chosen(the_store(), lineage)
    if dry_run:
        require_root()
        tell_outlook(verb.way(store, now()).steps(), as_json, "")
        return
    with on_issuer(store, "rollback", "", now()) as done:
        verb.rollback(store, now(), console.tell, done)
        console.result("\n".join(done))


@cli.command()
@DRY
@AS_JSON
@TOKEN
def issue(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """Order a certificate, if one is due."""
    from certsync.issuer.ca import due
    from certsync.issuer.ca import ordering as verb
    from certsync.issuer.lineages import Tell, each_lineage, named
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        steps = named(store, lambda one: due.outlook(one, now()).reasons)
        tell_outlook(steps, as_json, "needed: ")
        return

    def work(one: Store, tell: Tell, did: list[str]) -> None:
        number = verb.issue(one, now(), tell)
        if number is None:
            tell("a valid certificate for these names is there: nothing to order")
        else:
            did.append(f"ordered generation {number:04}")

    try:
        with on_issuer(store, "issue", lock_token, now()) as done:
            each_lineage(store, console.tell, done, work)
    except LockHeldError:
        raise
    except CertsyncError as error:
        if not (lock_token and due.has_something(store)):
            raise
        # A deploy goes on with what is there, and ends with what is not: that is noted by now.
        console.warn(f"{error.message}; {error.hint}" if error.hint else error.message)


@cli.command()
@DRY
@AS_JSON
@TOKEN
@click.option("--missed", multiple=True, hidden=True)
def replicate(dry_run: bool, as_json: bool, lock_token: str, missed: tuple[str, ...]) -> None:
    """Bring the newest generation to every backend, and prove it."""
    from certsync.issuer.lineages import Tell, each_lineage, named
    from certsync.issuer.replicas import replicate as verb
    from certsync.issuer.session import on_issuer, require_root

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(named(store, lambda one: verb.outlook(one, now()).steps), as_json, "")
        return

    def work(one: Store, tell: Tell, did: list[str]) -> None:
        if verb.is_one_of_several_without_any(one):
            tell("nothing has been issued yet, so there is nothing to replicate")
            return
        outcome = verb.replicate(one, now(), tell, missed)
        if outcome.changed:
            did.append(f"activated generation {outcome.number:04} on {', '.join(outcome.changed)}")

    with on_issuer(store, "replicate", lock_token, now()) as done:
        each_lineage(store, console.tell, done, work)


@cli.command()
@DRY
@AS_JSON
@TOKEN
@click.option("--rotate", is_flag=True, help="Make a new key now, though none is due.")
@click.option("--missed", multiple=True, hidden=True)
def tickets(
    dry_run: bool, as_json: bool, lock_token: str, rotate: bool, missed: tuple[str, ...]
) -> None:
    """Have all backends share the keys of TLS session tickets.

    They are rotated once a day by the hourly run.
    """
    from certsync.issuer.session import on_issuer, require_root
    from certsync.issuer.tickets import share as verb

    store = the_store()
    if dry_run:
        require_root()
        tell_outlook(verb.outlook(store, now(), rotate=rotate).steps, as_json, "")
        return
    with on_issuer(store, "tickets", lock_token, now()) as done:
        verb.tickets(store, now(), console.tell, done, rotate=rotate, missed=missed)
        console.result("\n".join(done) or "nothing to do")


@cli.command()
@AS_JSON
def prove(as_json: bool) -> None:
    """Probe every backend, and show what each one serves."""
    from certsync.issuer.replicas import prove as verb
    from certsync.issuer.session import require_root
    from certsync.model import report

    require_root()
    seen = verb.prove(the_store(), now())
    if as_json:
        console.result_json(seen.to_json())
    else:
        rows = [report.row(proof, "", seen.at) for proof in seen.rows]
        console.result(report.table(rows))
    if not seen.all_in_sync:
        raise WrongError("not every backend serves the current generation")


@cli.command()
@click.option("--set", "setting", is_flag=True, help="Read the URLs to send to, one a line.")
@click.option("--test", "testing", is_flag=True, help="Send a test message to each of them.")
def notify(setting: bool, testing: bool) -> None:
    """Say where messages go, or try whether they arrive."""
    from certsync.issuer.commands import notify as verb
    from certsync.issuer.session import require_root

    if setting is testing:
        raise click.UsageError("name one of --set and --test")
    require_root()
    if setting:
        if sys.stdin.isatty():
            console.tell("type an apprise URL a line, then press Ctrl-D")
        console.result(verb.set_urls(the_store(), sys.stdin.buffer.read()))
        return
    shown, refused = verb.test(the_store())
    console.result(shown)
    if refused:
        raise NotifyError(
            f"not every service accepted the test message: {', '.join(refused)}",
            "are its URL and the issuer's way out right?",
        )

"""The command line: what each verb takes. A verb's libraries are loaded only when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certsync import __version__, console
from certsync.errors import CertsyncError, FleetFileError, NotifyError, WrongError, in_our_words
from certsync.store import Store

if TYPE_CHECKING:
    # The hourly run has no need of it.
    from certsync.plan import Plan, Step

FLEET = click.argument("fleet", type=click.Path(path_type=Path), metavar="FLEET")
TOKEN = click.option("--lock-token", default="", hidden=True)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")
DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="certsync", message="%(prog)s %(version)s")
def cli() -> None:
    """One certificate for every server behind a TLS passthrough balancer.

    \b
    On your machine, with a fleet file:
      certsync init fleet.toml      write one, then edit it
      certsync check fleet.toml     look for mistakes
      certsync deploy fleet.toml    do the whole road
      certsync status fleet.toml    see what every backend serves
    """


def now() -> datetime:
    """Return the time; the only clock that decisions are given."""
    return datetime.now(timezone.utc)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("fleet.toml"))
def init(path: Path) -> None:
    """Write a commented fleet file to PATH (fleet.toml)."""
    from certsync.commands import init as verb

    console.result(verb.init(path))


@cli.command()
@FLEET
@click.option("--online", is_flag=True, help="Look at the hosts and at DNS too.")
def check(fleet: Path, online: bool) -> None:
    """Look for mistakes in FLEET, and with --online on its hosts."""
    from certsync.commands import check as verb

    console.result(verb.check(fleet))
    if online:
        from certsync.commands import check_online

        findings = check_online.check_online(fleet, now(), console.tell)
        for finding in findings:
            console.result(finding.text())
        if any(finding.stops for finding in findings):
            raise WrongError("the fleet is not ready to be deployed")
        console.result("every host is ready")


@cli.command()
@FLEET
@DRY
@AS_JSON
@click.option("--adopt-nginx", is_flag=True, help="Take over nginx sites that are not ours.")
@click.option("--adopt-haproxy", is_flag=True, help="Take over a haproxy.cfg that is not ours.")
def deploy(
    fleet: Path, dry_run: bool, as_json: bool, adopt_nginx: bool, adopt_haproxy: bool
) -> None:
    """Do the whole road for FLEET: nginx, balancer, certificate, replicas, proof, passthrough."""
    from certsync.commands import deploy as verb

    options = verb.Options(adopt_nginx=adopt_nginx, adopt_haproxy=adopt_haproxy)
    if dry_run:
        _tell_plan(verb.plan(fleet, options), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.deploy(fleet, options, now, done)


@cli.command("add-backend")
@FLEET
@click.argument("backends", nargs=-1, required=True, metavar="NAME ADDRESS | NAME=ADDRESS...")
@click.option("--private-address", default="", help="By which the fleet's hosts reach it.")
@click.option("--adopt-nginx", is_flag=True, help="Take over nginx sites that are not ours.")
@DRY
@AS_JSON
def add_backend(
    fleet: Path,
    backends: tuple[str, ...],
    private_address: str,
    adopt_nginx: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Add backends to FLEET: they get the current certificate, are proven, and then take traffic.

    Nothing is ordered from the CA. Several at once are named as NAME=ADDRESS.
    """
    from certsync.change import named
    from certsync.commands import add_backend as verb
    from certsync.look import Adopt

    try:
        additions = named(backends, private_address)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    adopt = Adopt(nginx=adopt_nginx)
    if dry_run:
        _tell_plan(verb.plan(fleet, additions, adopt, now()), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.add_backend(fleet, additions, adopt, now, done)


@cli.command("remove-backend")
@FLEET
@click.argument("name")
@click.option("--gone", is_flag=True, help="It cannot be reached, and will not be.")
@click.option("--compromised", is_flag=True, help="Replace the key, and revoke the certificate.")
@click.option(
    "--drain-seconds", type=click.IntRange(0, 3600), default=60, show_default=True,
    help="How long its last connections may take to end.",
)  # fmt: skip
@DRY
@AS_JSON
def remove_backend(fleet: Path, name: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Take the backend NAME out of FLEET: drained, its access cut, its key and certificate gone."""
    from certsync.commands import remove_backend as verb

    said = verb.Options(**options)
    if dry_run:
        _tell_plan(verb.plan(fleet, name, said), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.remove_backend(fleet, name, said, now, done)


@cli.command()
@FLEET
@click.argument("name")
@click.option("--old-is-dead", is_flag=True, help="The issuer cannot be reached, and will not be.")
@DRY
@AS_JSON
def promote(fleet: Path, name: str, old_is_dead: bool, dry_run: bool, as_json: bool) -> None:
    """Have the backend NAME of FLEET become the issuer; nothing secret moves."""
    from certsync.commands import promote as verb

    if dry_run:
        plan = verb.plan(fleet, name, old_is_dead=old_is_dead)
        _tell_plan(plan, as_json)
        return
    with _done_as_json(as_json) as done:
        verb.promote(fleet, name, now, done, old_is_dead=old_is_dead)


@cli.command()
@FLEET
@DRY
@AS_JSON
def leave(fleet: Path, dry_run: bool, as_json: bool) -> None:
    """Take certsync off all hosts of FLEET; nginx, HAProxy and the certificates stay."""
    from certsync.commands import leave as verb

    if dry_run:
        _tell_plan(verb.plan(fleet), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.leave(fleet, done)


@cli.command()
@FLEET
@AS_JSON
def status(fleet: Path, as_json: bool) -> None:
    """Probe every backend of FLEET now, and show what each one serves."""
    from certsync.commands import status as verb

    shown = verb.status(fleet, now())
    if as_json:
        console.result_json(shown.to_json())
    else:
        console.result(shown.text())
    if shown.findings:
        raise WrongError("; ".join(shown.findings), shown.hint)


@cli.command()
@click.argument("wish", type=click.Choice(["on", "off"]))
@FLEET
@DRY
@AS_JSON
def passthrough(wish: str, fleet: Path, dry_run: bool, as_json: bool) -> None:
    """Wish for the passthrough rule in FLEET, on or off; the next deploy carries it out."""
    from certsync.commands import passthrough as verb

    if dry_run:
        _tell_plan(verb.plan(fleet, on=wish == "on"), as_json)
        return
    with _done_as_json(as_json) as done:
        console.result(verb.passthrough(fleet, on=wish == "on", done=done))


@cli.command()
@DRY
@AS_JSON
@click.option("--force", is_flag=True, help="Order a certificate though none is due.")
def renew(dry_run: bool, as_json: bool, force: bool) -> None:
    """On the issuer, every hour by cron: finish, heal and prove, and renew what is due."""
    from certsync.commands import renew as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        outlook = verb.outlook(store, now(), force=force)
        if as_json:
            console.result_json(outlook.to_json())
        else:
            console.result("\n".join(verb.described(outlook)) or "nothing to do")
        return
    with on_issuer(store, "renew", "", now()) as done:
        verb.renew(store, now(), console.tell, done, force=force)
        console.result("\n".join(done) or "nothing was due")


@cli.command()
@DRY
@AS_JSON
def rollback(dry_run: bool, as_json: bool) -> None:
    """On the issuer: let every backend serve the generation before, and withdraw this one."""
    from certsync.commands import rollback as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.way(store, now()).steps(), as_json, "")
        return
    with on_issuer(store, "rollback", "", now()) as done:
        verb.rollback(store, now(), console.tell, done)
        console.result("\n".join(done))


@cli.command()
@DRY
@AS_JSON
@TOKEN
def issue(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On the issuer: order a certificate, if one is due."""
    from certsync.commands import issue as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        due = verb.outlook(store, now()).due
        _tell_outlook([due.why] if due else [], as_json, "an order would be made: ")
        return
    with on_issuer(store, "issue", lock_token, now()) as done:
        number = verb.issue(store, now(), console.tell)
        if number is None:
            console.tell("a valid certificate for these names is there: nothing to order")
        else:
            done.append(f"ordered generation {number:04}")


@cli.command()
@DRY
@AS_JSON
@TOKEN
@click.option("--missed", multiple=True, hidden=True)
def replicate(dry_run: bool, as_json: bool, lock_token: str, missed: tuple[str, ...]) -> None:
    """On the issuer: bring the newest generation to every backend, and prove it."""
    from certsync.commands import replicate as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.outlook(store, now()).steps, as_json, "")
        return
    with on_issuer(store, "replicate", lock_token, now()) as done:
        outcome = verb.replicate(store, now(), console.tell, missed)
        if outcome.changed:
            done.append(f"activated generation {outcome.number:04} on {', '.join(outcome.changed)}")


@cli.command()
@AS_JSON
def prove(as_json: bool) -> None:
    """On the issuer: probe every backend, and show what each one serves."""
    from certsync import report
    from certsync.commands import prove as verb
    from certsync.commands.session import require_root

    require_root()
    seen = verb.prove(Store(), now())
    if as_json:
        console.result_json(seen.to_json())
    else:
        rows = [report.row(proof, "", seen.at) for proof in (*seen.proofs, *seen.through)]
        console.result(report.table(rows))
    if not seen.all_in_sync:
        raise WrongError("not every backend serves the current generation")


@cli.command()
@click.option("--set", "setting", is_flag=True, help="Read the URLs to send to, one a line.")
@click.option("--test", "testing", is_flag=True, help="Send a test message to each of them.")
def notify(setting: bool, testing: bool) -> None:
    """On the issuer: say where messages go, or try whether they arrive."""
    from certsync.commands import notify as verb
    from certsync.commands.session import require_root

    if setting is testing:
        raise click.UsageError("name one of --set and --test")
    require_root()
    if setting:
        if sys.stdin.isatty():
            console.tell("type an apprise URL a line, then press Ctrl-D")
        console.result(verb.set_urls(Store(), sys.stdin.buffer.read()))
        return
    shown, refused = verb.test(Store())
    console.result(shown)
    if refused:
        raise NotifyError(
            f"not every service accepted the test message: {', '.join(refused)}",
            "are its URL and the issuer's way out right?",
        )


@cli.command()
@FLEET
@DRY
@AS_JSON
@click.option("--adopt-nginx", is_flag=True, help="Take over nginx sites that are not ours.")
@click.option("--adopt-haproxy", is_flag=True, help="Take over a haproxy.cfg that is not ours.")
def adopt(
    fleet: Path, dry_run: bool, as_json: bool, adopt_nginx: bool, adopt_haproxy: bool
) -> None:
    """Do the whole road for FLEET with the certificate that certbot has on the issuer.

    Nothing is ordered. When every backend is proven, certbot renews that certificate no more; its
    other ones, and its timer, stay as they are.
    """
    from certsync.commands import adopt as verb
    from certsync.commands.deploy import Options

    options = Options(adopt_nginx=adopt_nginx, adopt_haproxy=adopt_haproxy)
    if dry_run:
        _tell_plan(verb.plan(fleet, options, now()), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.adopt(fleet, options, now, done)


@cli.command("take-over", hidden=True)
@DRY
@AS_JSON
@TOKEN
def take_over(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On the issuer: keep the certificate that certbot has as a generation."""
    from certsync.commands import take_over as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.look(store, now()).steps(), as_json, "")
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
    """On the issuer: have certbot renew the fleet's certificate no more."""
    from certsync.commands import take_over as verb
    from certsync.commands.session import on_issuer

    store = Store()
    with on_issuer(store, "retire-certbot", lock_token, now()) as done:
        told = verb.retire_certbot(store, now())
        done.extend(told[:1])
        if told:
            console.result("\n".join(told))


@cli.command()
@FLEET
@click.option("--directory", default="", help="The URL of the CA's directory for tries.")
@AS_JSON
def rehearse(fleet: Path, directory: str, as_json: bool) -> None:
    """Walk the whole road for FLEET with a CA's directory for tries; nothing live is touched.

    The certificate that it gives is carried to every backend, checked there, and thrown away.
    """
    from certsync import rehearsal
    from certsync.commands import rehearse as verb

    findings = verb.rehearse(fleet, directory, console.tell)
    if as_json:
        console.result_json({"findings": [each.to_json() for each in findings]})
    else:
        console.result(rehearsal.table(findings))
    if error := rehearsal.error(findings):
        raise error
    console.tell("the whole road is open; nothing that is live was touched")


@cli.command("rehearse-here", hidden=True)
@click.option("--directory", required=True)
@TOKEN
def rehearse_here(directory: str, lock_token: str) -> None:
    """On the issuer: what `certsync rehearse` does there."""
    from certsync.commands import rehearse_here as verb
    from certsync.commands.session import locked

    with locked("rehearse-here", lock_token):
        findings = verb.rehearse_here(Store(), directory, now(), console.tell)
    console.result_json({"findings": [each.to_json() for each in findings]})


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes commands and paths in SHELL.

    \b
      bash: eval "$(certsync completion bash)"            in ~/.bashrc
      zsh:  eval "$(certsync completion zsh)"             in ~/.zshrc, after compinit
      fish: certsync completion fish | source             in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    console.result(found(cli, {}, "certsync", "_CERTSYNC_COMPLETE").source().strip())


@cli.command("manual", hidden=True)
def manual_page() -> None:
    """Print the manual page certsync(1), in roff."""
    from certsync import manual

    console.result(manual.page(cli, __version__).rstrip("\n"))


@cli.command(hidden=True)
@click.option("--by", "backend", required=True, metavar="BACKEND", help="Who may hold the keys.")
@DRY
@AS_JSON
@TOKEN
def compromised(backend: str, dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On the issuer: replace, revoke and delete every key that BACKEND may hold.

    It has been taken out of the fleet, and its private keys are in wrong hands.
    """
    from certsync.commands import compromised as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.outlook(store, now(), backend).steps(), as_json, "")
        return
    with on_issuer(store, "compromised", lock_token, now()) as done:
        verb.compromised(store, now(), console.tell, done, backend)
        console.result("\n".join(done) or "nothing to do")


@cli.command(hidden=True)
@DRY
@AS_JSON
@TOKEN
def enroll(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On a new issuer: have an account at the CA, and withdraw what may have been rolled back."""
    from certsync.commands import enroll as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.outlook(store).steps(), as_json, "")
        return
    with on_issuer(store, "enroll", lock_token, now()) as done:
        console.result(f"account {verb.enroll(store, now(), console.tell, done)}")


@cli.command(hidden=True)
@DRY
@AS_JSON
@TOKEN
def resign(dry_run: bool, as_json: bool, lock_token: str) -> None:
    """On an old issuer: end its account at the CA, and remove the account's key."""
    from certsync.commands import resign as verb
    from certsync.commands.session import on_issuer, require_root

    store = Store()
    if dry_run:
        require_root()
        _tell_outlook(verb.outlook(store), as_json, "")
        return
    with on_issuer(store, "resign", lock_token, now()) as done:
        verb.resign(store, console.tell, done)
        console.result("\n".join(done) or "nothing to do")


@cli.command("fetch-wheels", hidden=True)
@click.argument("python")
@click.argument("machine")
@click.argument("libc")
def fetch_wheels(python: str, machine: str, libc: str) -> None:
    """Fetch what installs certsync on an issuer, for a deploy that will have no route out.

    With and without what sends notifications.
    PYTHON (3.13), MACHINE (x86_64) and LIBC (2.41) are the issuer's.
    """
    from certsync import wheels

    targets = [wheels.Target(python, machine, libc, notify) for notify in (False, True)]
    if not all(wheels.fetched(target) for target in targets):
        console.tell(f"fetching the issuer's packages for Python {python} on {machine}")
    brought = {wheel.name for target in targets for wheel in wheels.bring(target)}
    console.result(f"{len(brought)} wheels for Python {python} on {machine} are at hand")


def _tell_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        console.result_json(plan.to_json())
    else:
        console.result(plan.text())
    console.tell("dry run: nothing was changed, and nothing was asked of the CA")


@contextmanager
def _done_as_json(as_json: bool) -> Iterator[list[Step]]:
    """Give a list to note what was done, and print it for programs at the end, if wished for."""
    done: list[Step] = []
    try:
        with console.narrating() if as_json else nullcontext():
            yield done
    finally:
        if as_json:
            console.result_json({"done": [asdict(each) for each in done]})


def _tell_outlook(steps: list[str], as_json: bool, before: str) -> None:
    if as_json:
        console.result_json({"steps": steps})
    else:
        console.result("\n".join(f"{before}{step}" for step in steps) or "nothing to do")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and end with its exit status."""
    sys.exit(run(lambda: cli.main(args=argv, prog_name="certsync", standalone_mode=False)))


def run(work: Callable[[], Any]) -> int:
    """Do the work and return the exit status, with every error told as people read it."""
    try:
        work()
    except FleetFileError as error:
        from certsync.fleet_file import describe

        console.tell(describe(error))
        return error.exit_status
    except BrokenPipeError:
        return 1
    except (CertsyncError, OSError, ModuleNotFoundError) as error:
        told = in_our_words(error)
        console.fail(told)
        return told.exit_status
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        console.tell("interrupted: the same command continues")
        return 130
    return 0

"""What runs on the operator's machine, with a fleet file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certsync.model.errors import WrongError
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, FLEET, cli, now

if TYPE_CHECKING:
    # The hourly run has no need of it.
    from certsync.operator.deployment.plan import Plan, Step


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("fleet.toml"))
def init(path: Path) -> None:
    """Write a commented fleet file to PATH (fleet.toml)."""
    from certsync.operator.commands import init as verb

    console.result(verb.init(path))


@cli.command()
@FLEET
@click.option("--online", is_flag=True, help="Look at the hosts and at DNS too.")
def check(fleet: Path, online: bool) -> None:
    """Look for mistakes in FLEET, and with --online on its hosts."""
    from certsync.operator.commands import check as verb

    console.result(verb.check(fleet))
    if online:
        from certsync.operator.hosts import check_online

        findings = check_online.check_online(fleet, now(), console.tell)
        for finding in findings:
            console.result(finding.full())
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
    """Set up FLEET end to end: nginx, balancer, certificate, replicas, proof, passthrough."""
    from certsync.operator.commands import deploy as verb
    from certsync.operator.deployment.request import Options

    options = Options(adopt_nginx=adopt_nginx, adopt_haproxy=adopt_haproxy)
    if dry_run:
        _tell_plan(verb.plan(fleet, options), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.deploy(fleet, options, now, done)


@cli.command("add-backend")
@FLEET
@click.argument("backends", nargs=-1, required=True, metavar="NAME ADDRESS | NAME=ADDRESS...")
@click.option("--private-address", default="", help="By which the fleet's hosts reach it.")
@click.option(
    "--serves", multiple=True, metavar="LINEAGE",
    help="Name it in the served_by of this one; more than once for several.",
)  # fmt: skip
@click.option("--adopt-nginx", is_flag=True, help="Take over nginx sites that are not ours.")
@click.option("--adopt-haproxy", is_flag=True, help="Take over a haproxy.cfg that is not ours.")
@DRY
@AS_JSON
def add_backend(
    fleet: Path,
    backends: tuple[str, ...],
    adopt_nginx: bool,
    adopt_haproxy: bool,
    dry_run: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Add backends to FLEET: they get the current certificate, are proven, and then take traffic.

    Nothing is ordered from the CA. Several at once are named as NAME=ADDRESS.
    """
    from certsync.operator.change import named
    from certsync.operator.commands import add_backend as verb
    from certsync.operator.hosts.facts import Adopt

    try:
        additions = named(backends, **more)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    adopt = Adopt(nginx=adopt_nginx, haproxy=adopt_haproxy)
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
    from certsync.operator.commands import remove_backend as verb

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
    from certsync.operator.commands import promote as verb

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
    from certsync.operator.commands import leave as verb

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
    from certsync.operator.fleet_file import opened
    from certsync.operator.watching import status as verb

    shown = verb.status(opened(fleet), now())
    if as_json:
        console.result_json(shown.to_json())
    else:
        console.result(shown.text())
    if shown.findings:
        raise WrongError("; ".join(map(str, shown.findings)), shown.hint)


@cli.command()
@FLEET
@click.option("--offline", is_flag=True, help="Ask nobody whether the rule may be on.")
@AS_JSON
def rules(fleet: Path, offline: bool, as_json: bool) -> None:
    """Print what to set by hand at a provider's load balancer, for a FLEET with none of ours.

    Exits 3 where the rule of port 443 may not be switched on yet.
    """
    from certsync.operator.balancer import rules as verb

    shown = verb.rules(fleet, offline=offline)
    if as_json:
        console.result_json(shown.to_json())
    else:
        console.result(shown.text())
    if not shown.standing.may:
        raise WrongError("the rule of port 443 may not be switched on yet", "certsync deploy FLEET")


@cli.command()
@click.argument("wish", type=click.Choice(["on", "off"]))
@FLEET
@DRY
@AS_JSON
def passthrough(wish: str, fleet: Path, dry_run: bool, as_json: bool) -> None:
    """Set passthrough on or off in FLEET; the next deploy applies it."""
    from certsync.operator.commands import passthrough as verb

    if dry_run:
        _tell_plan(verb.plan(fleet, on=wish == "on"), as_json)
        return
    with _done_as_json(as_json) as done:
        console.result(verb.passthrough(fleet, on=wish == "on", done=done))


@cli.command()
@FLEET
@DRY
@AS_JSON
@click.option("--adopt-nginx", is_flag=True, help="Take over nginx sites that are not ours.")
@click.option("--adopt-haproxy", is_flag=True, help="Take over a haproxy.cfg that is not ours.")
def adopt(
    fleet: Path, dry_run: bool, as_json: bool, adopt_nginx: bool, adopt_haproxy: bool
) -> None:
    """Set up FLEET end to end with the certificate that certbot has on the issuer.

    Nothing is ordered. When every backend is proven, certbot no longer renews that certificate; its
    other ones, and its timer, stay as they are.
    """
    from certsync.operator.commands import adopt as verb
    from certsync.operator.deployment.request import Options

    options = Options(adopt_nginx=adopt_nginx, adopt_haproxy=adopt_haproxy)
    if dry_run:
        _tell_plan(verb.plan(fleet, options, now()), as_json)
        return
    with _done_as_json(as_json) as done:
        verb.adopt(fleet, options, now, done)


@cli.command()
@FLEET
@click.option("--directory", default="", help="The URL of the CA's directory for tries.")
@AS_JSON
def rehearse(fleet: Path, directory: str, as_json: bool) -> None:
    """Try every step for FLEET with a CA's test directory; nothing live is touched.

    The certificate that it gives is carried to every backend, checked there, and thrown away.
    """
    from certsync.model import rehearsal
    from certsync.operator.commands import rehearse as verb

    findings = verb.rehearse(fleet, directory, console.tell)
    if as_json:
        console.result_json({"findings": [each.to_json() for each in findings]})
    else:
        console.result(rehearsal.table(findings))
    if error := rehearsal.error(findings):
        raise error
    console.tell("every step works; nothing that is live was touched")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print shell completion for SHELL.

    \b
      bash: eval "$(certsync completion bash)"            in ~/.bashrc
      zsh:  eval "$(certsync completion zsh)"             in ~/.zshrc, after compinit
      fish: certsync completion fish | source             in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    console.result(found(cli, {}, "certsync", "_CERTSYNC_COMPLETE").source().strip())


@cli.command("fetch-wheels", hidden=True)
@click.argument("python")
@click.argument("machine")
@click.argument("libc")
def fetch_wheels(python: str, machine: str, libc: str) -> None:
    """Fetch what installs certsync on an issuer, for a deploy that will have no route out.

    With and without what sends notifications.
    PYTHON (3.13), MACHINE (x86_64) and LIBC (2.41) are the issuer's.
    """
    from certsync.operator.hosts import wheels

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

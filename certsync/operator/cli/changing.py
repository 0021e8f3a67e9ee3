"""Commands that change a fleet's machines and their roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from certsync.operator.cli.output import ADOPT_HAPROXY, ADOPT_NGINX, done_as_json, tell_plan
from certsync.system.command_line import AS_JSON, DRY, FLEET, cli, now


@cli.command("add-backend")
@FLEET
@click.argument("backends", nargs=-1, required=True, metavar="NAME ADDRESS | NAME=ADDRESS...")
@click.option(
    "--private-address", default="", help="IP address at which the fleet's hosts reach it."
)
@click.option(
    "--serves", multiple=True, metavar="LINEAGE",
    help="Add it to this lineage's served_by; may be repeated.",
)  # fmt: skip
@ADOPT_NGINX
@ADOPT_HAPROXY
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

    Nothing is ordered from the CA. To add several at once, write NAME=ADDRESS for each.
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
        tell_plan(verb.plan(fleet, additions, adopt, now()), as_json)
        return
    with done_as_json(as_json) as done:
        verb.add_backend(fleet, additions, adopt, now, done)


@cli.command("remove-backend")
@FLEET
@click.argument("name")
@click.option("--gone", is_flag=True, help="It cannot be reached and will not come back.")
@click.option("--compromised", is_flag=True, help="Replace the key and revoke the certificate.")
@click.option(
    "--drain-seconds", type=click.IntRange(0, 3600), default=60, show_default=True,
    help="How long to wait for open connections to end.",
)  # fmt: skip
@DRY
@AS_JSON
def remove_backend(fleet: Path, name: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Remove backend NAME from FLEET: drain it, revoke access, delete its certificate and key."""
    from certsync.operator.commands import remove_backend as verb
    from certsync.operator.deployment.leaving import Options

    chosen = Options(**options)
    if dry_run:
        tell_plan(verb.plan(fleet, name, chosen), as_json)
        return
    with done_as_json(as_json) as done:
        verb.remove_backend(fleet, name, chosen, now, done)


@cli.command()
@FLEET
@click.argument("name")
@click.option(
    "--old-is-dead", is_flag=True, help="The old issuer is unreachable and will not come back."
)
@DRY
@AS_JSON
def promote(fleet: Path, name: str, old_is_dead: bool, dry_run: bool, as_json: bool) -> None:
    """Make backend NAME the issuer of FLEET; no private key is moved."""
    from certsync.operator.commands import promote as verb

    if dry_run:
        plan = verb.plan(fleet, name, old_is_dead=old_is_dead)
        tell_plan(plan, as_json)
        return
    with done_as_json(as_json) as done:
        verb.promote(fleet, name, now, done, old_is_dead=old_is_dead)


@cli.command()
@FLEET
@DRY
@AS_JSON
def leave(fleet: Path, dry_run: bool, as_json: bool) -> None:
    """Uninstall certsync from all hosts of FLEET; nginx, HAProxy and the certificates stay."""
    from certsync.operator.commands import leave as verb

    if dry_run:
        tell_plan(verb.plan(fleet), as_json)
        return
    with done_as_json(as_json) as done:
        verb.leave(fleet, done)

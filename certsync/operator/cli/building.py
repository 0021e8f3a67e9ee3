"""Commands that set up a fleet, from its fleet file to passthrough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from certsync.model.errors import WrongError
from certsync.operator.cli.output import (
    ACCEPT_GAP,
    ADOPT_BALANCER,
    ADOPT_HAPROXY,
    ADOPT_NGINX,
    done_as_json,
    tell_plan,
)
from certsync.system import console
from certsync.system.command_line import AS_JSON, DRY, FLEET, cli, now


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("fleet.toml"))
def init(path: Path) -> None:
    """Write a commented fleet file to PATH (fleet.toml)."""
    from certsync.operator.commands import init as verb

    console.result(verb.init(path))


@cli.command()
@FLEET
@click.option("--online", is_flag=True, help="Also check the hosts and DNS.")
def check(fleet: Path, online: bool) -> None:
    """Check FLEET for mistakes, and with --online its hosts and DNS."""
    from certsync.operator.commands import check as verb

    console.result(verb.check(fleet))
    if online:
        from certsync.operator.hosts import check_online

        findings = check_online.check_online(fleet, now(), console.tell)
        for finding in findings:
            console.result(finding.full())
        if any(finding.stops for finding in findings):
            raise WrongError("the fleet is not ready for a deploy")
        console.result("every host is ready")


@cli.command()
@FLEET
@DRY
@AS_JSON
@ADOPT_NGINX
@ADOPT_HAPROXY
@ADOPT_BALANCER
@ACCEPT_GAP
def deploy(fleet: Path, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Set up FLEET end to end: nginx, balancer, certificate, replicas, probes, passthrough."""
    from certsync.operator.commands import deploy as verb
    from certsync.operator.deployment.request import Options

    options = Options(**chosen)
    if dry_run:
        tell_plan(verb.plan(fleet, options), as_json)
        return
    with done_as_json(as_json) as done:
        verb.deploy(fleet, options, now, done)


@cli.command()
@FLEET
@DRY
@AS_JSON
@ADOPT_NGINX
@ADOPT_HAPROXY
@ADOPT_BALANCER
@ACCEPT_GAP
def adopt(fleet: Path, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Set up FLEET end to end with the certificate that certbot has on the issuer.

    Nothing is ordered. Once every backend is proven, certbot no longer renews that certificate. Its
    other certificates and its timer are left alone.
    """
    from certsync.operator.commands import adopt as verb
    from certsync.operator.deployment.request import Options

    options = Options(**chosen)
    if dry_run:
        tell_plan(verb.plan(fleet, options, now()), as_json)
        return
    with done_as_json(as_json) as done:
        verb.adopt(fleet, options, now, done)


@cli.command()
@FLEET
@click.option("--directory", default="", help="URL of the CA's staging directory.")
@AS_JSON
def rehearse(fleet: Path, directory: str, as_json: bool) -> None:
    """Try every step for FLEET against a CA's staging directory; nothing live is touched.

    The test certificate is pushed to every backend, checked there, and discarded.
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
    console.tell("every step works; nothing live was touched")


@cli.command()
@click.argument("setting", type=click.Choice(["on", "off"]))
@FLEET
@DRY
@AS_JSON
def passthrough(setting: str, fleet: Path, dry_run: bool, as_json: bool) -> None:
    """Turn passthrough on or off in FLEET; the next deploy applies it."""
    from certsync.operator.commands import passthrough as verb

    if dry_run:
        tell_plan(verb.plan(fleet, on=setting == "on"), as_json)
        return
    with done_as_json(as_json) as done:
        console.result(verb.passthrough(fleet, on=setting == "on", done=done))

"""Commands that change nothing, shell completion, and the download of an issuer's wheels."""

from __future__ import annotations

from pathlib import Path

import click

from certsync.model.errors import WrongError
from certsync.system import console
from certsync.system.command_line import AS_JSON, FLEET, cli, now


@cli.command()
@FLEET
@AS_JSON
def status(fleet: Path, as_json: bool) -> None:
    """Probe every backend of FLEET now and show what each one serves."""
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
@click.option("--offline", is_flag=True, help="Do not ask the issuer whether the rule may be on.")
@AS_JSON
def rules(fleet: Path, offline: bool, as_json: bool) -> None:
    """Print the settings for your provider's load balancer, when FLEET has none of its own.

    Exits 3 while the rule for port 443 must stay off.
    """
    from certsync.operator.balancer import rules as verb

    shown = verb.rules(fleet, offline=offline)
    if as_json:
        console.result_json(shown.to_json())
    else:
        console.result(shown.text())
    if not shown.standing.may:
        raise WrongError("the rule for port 443 must stay off for now", "certsync deploy FLEET")


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
    """Download the wheels for an issuer ahead of a deploy without Internet access.

    Both sets are fetched: with and without notifications.
    PYTHON (3.13), MACHINE (x86_64) and LIBC (2.41) are the issuer's.
    """
    from certsync.operator.hosts import wheels

    targets = [wheels.Target(python, machine, libc, notify) for notify in (False, True)]
    if not all(wheels.fetched(target) for target in targets):
        console.tell(f"downloading the issuer's packages for Python {python} on {machine}")
    brought = {wheel.name for target in targets for wheel in wheels.bring(target)}
    console.result(f"{len(brought)} wheels for Python {python} on {machine} are in the cache")

"""The group that every command belongs to, and the options that many of them share."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from certsync import __version__

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

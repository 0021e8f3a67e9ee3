"""The group of all commands, and the options that many of them share."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import click

from certsync import __version__

FLEET = click.argument("fleet", type=click.Path(path_type=Path), metavar="FLEET")
TOKEN = click.option("--lock-token", default="", hidden=True)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
DRY = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")


WHOLE = 1000
"""The limit for a command's first sentence in --help: high enough to show it in full."""

HEADINGS = {"operator": "On your machine", "issuer": "On the issuer"}
"""The machine that a command is for, by its package."""


class Sided(click.Group):
    """A group that lists its commands by machine, each with its first sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's interface
        """Return the commands in the order of their definition."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per machine."""
        for room, heading in HEADINGS.items():
            rows = [
                (name, command.get_short_help_str(WHOLE))
                for name in self.list_commands(ctx)
                if (command := self.commands[name]).hidden is False
                and f".{room}." in command.callback.__module__
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


@click.group(cls=Sided, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="certsync", message="%(prog)s %(version)s")
def cli() -> None:
    """One certificate for every server behind a TLS passthrough balancer."""


def now() -> datetime:
    """Return the time: the only clock passed to decisions."""
    return datetime.now(timezone.utc)

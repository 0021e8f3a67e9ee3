"""The command line. A command's libraries are imported only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from certsync.model.errors import CertsyncError, FleetFileError, as_certsync_error
from certsync.system import console
from certsync.system.command_line import cli

__all__ = ["cli", "main", "run"]

SIDES = ("operator", "issuer")
"""The packages that have commands. On an issuer only its own is installed."""

for side in SIDES:
    if find_spec(f"certsync.{side}"):
        import_module(f"certsync.{side}.cli")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(lambda: cli.main(args=argv, prog_name="certsync", standalone_mode=False)))


def run(work: Callable[[], Any]) -> int:
    """Do the work, print errors for people, and return the exit status."""
    try:
        work()
    except FleetFileError as error:
        from certsync.operator.fleet_file import describe

        console.tell(describe(error))
        return error.exit_status
    except BrokenPipeError:
        return 1
    except (CertsyncError, OSError, ModuleNotFoundError) as error:
        reported = as_certsync_error(error)
        console.fail(reported)
        return reported.exit_status
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        console.tell("interrupted; run the same command again to continue")
        return 130
    return 0

"""The command line: what each verb takes. A verb's libraries are loaded only when it is called."""

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
"""The rooms with verbs of their own; an issuer has only its own one."""

for side in SIDES:
    if find_spec(f"certsync.{side}"):
        import_module(f"certsync.{side}.cli")


def main(argv: list[str] | None = None) -> None:
    """Run the command line and end with its exit status."""
    sys.exit(run(lambda: cli.main(args=argv, prog_name="certsync", standalone_mode=False)))


def run(work: Callable[[], Any]) -> int:
    """Do the work and return the exit status, with every error told as people read it."""
    try:
        work()
    except FleetFileError as error:
        from certsync.operator.fleet_file import describe

        console.tell(describe(error))
        return error.exit_status
    except BrokenPipeError:
        return 1
    except (CertsyncError, OSError, ModuleNotFoundError) as error:
        told = as_certsync_error(error)
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

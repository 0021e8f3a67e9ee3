"""`certsync init`: write a fleet file to start from, and a pyinfra inventory for it."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.resources import files
from pathlib import Path

from certsync.model.errors import CertsyncError
from certsync.operator.fleet_file.paths import reason

MODULES = sys.stdlib_module_names | {"certsync", "pyinfra"}

INVENTORY = '''\
"""pyinfra inventory: the fleet of the TOML file beside this one."""

from pathlib import Path

from certsync.inventory import groups

backends, issuer, replicas, balancers = groups(Path(__file__).with_suffix(".toml"))
'''


def init(path: Path) -> str:
    """Write a fleet file with every option in it, and the inventory file beside it.

    Returns:
        What to edit in it, and the next command.

    Raises:
        CertsyncError: the path already exists, or cannot be written.
    """
    _require_good_name(path)
    inventory = path.with_suffix(".py")
    template = (
        files("certsync.operator.fleet_file").joinpath("template.toml").read_text(encoding="utf-8")
    )
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        if not _create(path, template):
            raise CertsyncError(f"{path} already exists", "edit it, or choose another path")
        wrote = _create(inventory, INVENTORY)
    except OSError as error:
        raise CertsyncError(
            f"{path} cannot be written: {reason(error)}", "choose a path that you can write to"
        ) from None
    second = f"wrote {inventory}" if wrote else f"{inventory} already exists; left unchanged"
    return f"wrote {path}\n{second}\n\n{_next_steps(path)}"


def _require_good_name(path: Path) -> None:
    # The inventory file has the same name with .py, and finds the fleet file that way.
    if path.suffix != ".toml":
        better = path / "fleet.toml" if path.is_dir() else path.with_suffix(".toml")
        raise CertsyncError(f"{path} does not end in .toml", f"`certsync init {_shell(better)}`")
    # Python searches the folder it is started in for modules.
    if path.stem in MODULES:
        raise CertsyncError(
            f"the inventory beside {path} would be {path.stem}.py, which hides a Python module",
            f"`certsync init {_shell(path.with_name('fleet.toml'))}`",
        )


def _create(path: Path, text: str) -> bool:
    """Write a new file atomically. Return False if it exists: it is left unchanged."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never replaces an existing file.
        try:
            path.hardlink_to(unfinished)
        except FileExistsError:
            return False
        return True
    finally:
        unfinished.unlink(missing_ok=True)


def _next_steps(path: Path) -> str:
    return f"""\
Edit {path}:
  names, public_addresses   the names on the certificate, and the addresses DNS gives for them
  agree_to_terms            in [ca], after reading the CA's terms of service
  address                   of each machine, under [balancers.NAME] and [backends.NAME]

Then check it for mistakes:
  certsync check {_shell(path)}"""


def _shell(path: Path) -> str:
    return shlex.quote(str(path))

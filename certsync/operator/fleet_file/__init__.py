"""Reads and checks a fleet file; reports all of its mistakes at once.

`schema` defines the keys, and `places` those that are elsewhere in the fleet. `rules`, `hosts` and
`paths` check single values; `whole` checks what is required and must fit together.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tomlkit.exceptions import TOMLKitError

from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import Fleet
from certsync.operator.change import NONE, Change
from certsync.operator.fleet_file import whole
from certsync.operator.fleet_file.draft import drafted
from certsync.operator.fleet_file.editing import changed, write
from certsync.operator.fleet_file.paths import reason
from certsync.operator.fleet_file.toml import parsed


@dataclass(frozen=True)
class FleetFile:
    """A fleet file, read once per command, and the change that the command is about to make."""

    path: Path
    raw: bytes
    """Its content as read."""

    change: Change = NONE

    def __str__(self) -> str:
        """Return its path, for messages."""
        return str(self.path)

    @property
    def before(self) -> FleetFile:
        """The fleet file without the change."""
        return replace(self, change=NONE)

    def changing(self, change: Change) -> FleetFile:
        """Return it with a change; nothing is written."""
        return replace(self, change=change)

    @cached_property
    def text(self) -> str:
        """Its text, with the change.

        Raises:
            FleetFileError: it is not TOML.
        """
        # Some editors start a file with a byte order mark.
        text = self.raw.decode("utf-8-sig")
        if self.change == NONE:
            return text
        # tomlkit accepts some text that is not TOML, and its messages are less exact.
        parsed(text, str(self.path))
        try:
            return changed(text, self.change)
        except (TOMLKitError, RecursionError) as error:
            found = Mistake("file", f"cannot be edited: {error}", "edit it by hand, and deploy")
            raise FleetFileError(str(self.path), [found]) from None

    @cached_property
    def fleet(self) -> Fleet:
        """The fleet it describes, with the change.

        Raises:
            FleetFileError: it has mistakes.
        """
        return parse_fleet(self.text, str(self.path), self.path.parent)

    def save(self) -> None:
        """Apply the change to the file on disk, which may have been edited meanwhile.

        Raises:
            FleetFileError: it can no longer be read, or is not TOML.
        """
        write(self.path, opened(self.path).changing(self.change).text)

    @property
    def sha256(self) -> str:
        """SHA-256 in hex, with the change."""
        content = self.raw if self.change == NONE else self.text.encode()
        return hashlib.sha256(content).hexdigest()


def opened(path: Path) -> FleetFile:
    """Read a fleet file.

    Raises:
        FleetFileError: it cannot be read, or is not text.
    """
    return FleetFile(path, _raw(path))


def read_fleet(path: Path, change: Change = NONE) -> Fleet:
    """Return the fleet that a file describes, with a change applied.

    Raises:
        FleetFileError: it cannot be read, or has mistakes.
    """
    return opened(path).changing(change).fleet


def parse_fleet(text: str, path: str, folder: Path) -> Fleet:
    """Return the fleet that a fleet file's text describes.

    Args:
        text: the file's text.
        path: the file's name for messages.
        folder: where relative paths in it start.

    Raises:
        FleetFileError: it has mistakes.
    """
    draft = drafted(parsed(text, path), folder)
    if mistakes := [*draft.mistakes, *whole.check(draft)]:
        raise FleetFileError(path, mistakes)
    return draft.fleet


def describe(error: FleetFileError) -> str:
    """Return a fleet file's mistakes as text, each followed by its hint."""
    lines = [f"error: {error.message}"]
    for mistake in error.mistakes:
        lines.append(f"  {mistake.place}: {mistake.message}")
        if mistake.hint:
            lines.append(f"    hint: {mistake.hint}")
    return "\n".join(lines)


def _raw(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        raw.decode("utf-8-sig")
        return raw
    except FileNotFoundError:
        found = Mistake("file", "does not exist", f"`certsync init {shlex.quote(str(path))}`")
    except IsADirectoryError:
        inside = shlex.quote(str(path / "fleet.toml"))
        found = Mistake("file", "is a folder", f"name a file in it, or `certsync init {inside}`")
    except OSError as error:
        hint = "use a file that you can read, or create one with `certsync init`"
        found = Mistake("file", f"cannot be read: {reason(error)}", hint)
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8, or create a new one with `certsync init`"
        found = Mistake("file", f"is not UTF-8 text, see byte {error.start + 1}", hint)
    raise FleetFileError(str(path), [found])

"""What is read from hosts: each fact one command, and a pure reading of what it printed."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pyinfra.api import FactBase

from certsync import look
from certsync.look import Surroundings


class Standing(FactBase[Surroundings]):
    """What a host is like before it is touched."""

    def command(self) -> str:
        """Return the script."""
        return look.SCRIPT

    def process(self, output: list[str]) -> Surroundings:
        """Return what it says."""
        return look.parse(output)

    @staticmethod
    def default() -> Surroundings:
        """Return what is known of a host that does not answer."""
        return Surroundings()


class Text(FactBase[str]):
    """A file's text; empty if it is not there."""

    def command(self, path: str) -> str:
        """Return a command that never fails."""
        return f"cat {shlex.quote(path)} 2>/dev/null || :"

    def process(self, output: list[str]) -> str:
        """Return the text with its last line's end, which pyinfra takes away."""
        return "\n".join(output) + "\n"

    @staticmethod
    def default() -> str:
        """Return the text of no file."""
        return ""


class Lines(FactBase[list[str]]):
    """What a command that only reads prints, line by line; nothing if it fails."""

    def command(self, script: str) -> str:
        """Return the script, which may fail."""
        return f"( {script} ) 2>/dev/null || :"

    def process(self, output: list[str]) -> list[str]:
        """Return the lines."""
        return output

    @staticmethod
    def default() -> list[str]:
        """Return no line."""
        return []


class Answer(FactBase[dict[str, Any]]):
    """What one of certsync's own commands on the issuer answers in JSON; nothing if it cannot."""

    def command(self, verb: str) -> str:
        """Return the command; its exit status is part of the answer, not a failure."""
        return f"/opt/certsync/current/bin/certsync {verb} --json 2>/dev/null || :"

    def process(self, output: list[str]) -> dict[str, Any]:
        """Return the answer."""
        try:
            answer = json.loads("\n".join(output))
        except (ValueError, RecursionError):
            return {}
        return answer if isinstance(answer, dict) else {}

    @staticmethod
    def default() -> dict[str, Any]:
        """Return no answer."""
        return {}

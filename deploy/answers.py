"""What certsync on the issuer answers: asked each time, because each step changes it."""

from __future__ import annotations

import json
from typing import Any

from pyinfra.api import FactBase


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

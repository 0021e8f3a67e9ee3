"""What certsync on the issuer says is to be done: asked again after each thing that was done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from gevent import spawn
from gevent.lock import RLock
from pyinfra.api import FactBase, Host
from pyinfra.api.exceptions import PyinfraError

from certsync.model.answers import Proven
from certsync.model.fleet import Fleet
from certsync.model.paths import CERTSYNC

TOGETHER = ("issue", "replicate", "tickets", "prove")
"""What one question is asked about all at once, in the order in which a deploy has it done."""


class Answer(FactBase[dict[str, Any]]):
    """What one of certsync's own commands on the issuer answers in JSON; nothing if it cannot."""

    def command(self, words: str) -> str:
        """Return the command; its exit status is part of the answer, not a failure."""
        return f"{CERTSYNC} {words} 2>/dev/null || :"

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


SECONDS = 900
"""For one answer: an issuer may wait 90 s for each of its backends, sixteen at a time."""

_told: dict[str, dict[str, Any]] = {}
_asking = RLock()
_asked_ahead: set[str] = set()
_forgotten = 0
"""How often what issuers had said was forgotten."""


def steps(issuer: Host, verb: str) -> list[str] | None:
    """Return what a verb would do, in words; None: the issuer cannot say.

    ``verb`` may have options, and is then asked about by itself.
    """
    if verb in TOGETHER:
        return _steps(_outlook(issuer, verb).get(verb))
    said = issuer.get_fact(Answer, words=f"{verb} --dry-run --json", _timeout=SECONDS)
    return _steps(said.get("steps"))


def proven(issuer: Host, fleet: Fleet) -> Proven:
    """Return what `certsync prove` on the issuer has seen; nothing, if it cannot be asked."""
    try:
        return Proven.from_json(_outlook(issuer, "prove").get("prove"), fleet.name)
    except ValueError:
        # Another machine's word that is none: whoever takes traffic now goes on taking it.
        return Proven()


def ask_ahead(issuer: Host) -> None:
    """Ask an issuer at once, without waiting for what it says.

    Of a run that changes nothing there, nothing more is asked.
    """
    if issuer.name in _asked_ahead or not issuer.connected:
        return
    _asked_ahead.add(issuer.name)
    spawn(_ahead, issuer)


def _ahead(issuer: Host) -> None:
    try:
        with _asking:
            if issuer.name not in _told:
                _ask(issuer, TOGETHER[0])
    except PyinfraError:
        # Whoever needs the answer asks again, and is told why there is none.
        return


def forget() -> None:
    """Have issuers asked again, the next time that somebody wants to know.

    Something was done, there or on a host that they look at. What they have been asked already and
    not answered yet is not kept either.
    """
    global _forgotten  # noqa: PLW0603  # it counts for the whole run
    _forgotten += 1
    _told.clear()


def _steps(told: Any) -> list[str] | None:
    return [str(each) for each in told] if isinstance(told, list) else None


def _outlook(issuer: Host, verb: str) -> dict[str, Any]:
    # All balancers ask for the proofs at the same time.
    with _asking:
        while verb not in _told.get(issuer.name, {}):
            _ask(issuer, verb)
        return _told[issuer.name]


def _ask(issuer: Host, verb: str) -> None:
    """Ask once, and keep what is said unless something was done meanwhile."""
    before = _forgotten
    verbs = TOGETHER[TOGETHER.index(verb) :]
    said: dict[str, Any] = issuer.get_fact(Answer, words=_question(verbs), _timeout=SECONDS)
    if _forgotten == before:
        # What it says nothing of is not asked again either.
        _told[issuer.name] = {**dict.fromkeys(verbs), **said}


def _question(verbs: Sequence[str]) -> str:
    return shlex.join(["outlook", *verbs])

"""What certsync on the issuer says is to be done: asked again after every change."""

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
"""The verbs that one question covers, in the order in which a deploy runs them."""


class Answer(FactBase[dict[str, Any]]):
    """The JSON answer of a certsync command on the issuer; empty if there is none."""

    def command(self, words: str) -> str:
        """Return the command; a nonzero exit status is not a failure of the fact."""
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
        """Return an empty answer."""
        return {}


SECONDS = 900
"""The limit for one answer: an issuer may wait 90 s for each backend, sixteen at a time."""

_answers: dict[str, dict[str, Any]] = {}
_asking = RLock()
_asked_ahead: set[str] = set()
_forgotten = 0
"""How often the answers were discarded."""


def steps(issuer: Host, verb: str) -> list[str] | None:
    """Return what a verb would do, in words; None: the issuer gave no answer.

    ``verb`` may have options, and is then asked about separately.
    """
    if verb in TOGETHER:
        return _steps(_outlook(issuer, verb).get(verb))
    answer = issuer.get_fact(Answer, words=f"{verb} --dry-run --json", _timeout=SECONDS)
    return _steps(answer.get("steps"))


def proven(issuer: Host, fleet: Fleet) -> Proven:
    """Return the result of `certsync prove` on the issuer; empty if there is none."""
    try:
        return Proven.from_json(_outlook(issuer, "prove").get("prove"), fleet.name)
    except ValueError:
        # An invalid answer: backends that have traffic now keep it.
        return Proven()


def ask_ahead(issuer: Host) -> None:
    """Ask an issuer in advance, without waiting for the answer.

    If the run changes nothing there, this is the only question.
    """
    if issuer.name in _asked_ahead or not issuer.connected:
        return
    _asked_ahead.add(issuer.name)
    spawn(_ahead, issuer)


def _ahead(issuer: Host) -> None:
    try:
        with _asking:
            if issuer.name not in _answers:
                _ask(issuer, TOGETHER[0])
    except PyinfraError:
        # When the answer is needed, it is asked for again, and the failure is reported then.
        return


def forget() -> None:
    """Discard all answers, because something was changed on an issuer or on a host it probes.

    Answers to questions that are still open are discarded, too.
    """
    global _forgotten  # noqa: PLW0603  # it counts for the whole run
    _forgotten += 1
    _answers.clear()


def _steps(answer: Any) -> list[str] | None:
    return [str(each) for each in answer] if isinstance(answer, list) else None


def _outlook(issuer: Host, verb: str) -> dict[str, Any]:
    # All balancers request the proofs at the same time.
    with _asking:
        while verb not in _answers.get(issuer.name, {}):
            _ask(issuer, verb)
        return _answers[issuer.name]


def _ask(issuer: Host, verb: str) -> None:
    """Ask once, and keep the answer unless something was changed meanwhile."""
    before = _forgotten
    verbs = TOGETHER[TOGETHER.index(verb) :]
    answer: dict[str, Any] = issuer.get_fact(Answer, words=_question(verbs), _timeout=SECONDS)
    if _forgotten == before:
        # Verbs missing from the answer are not asked about again either.
        _answers[issuer.name] = {**dict.fromkeys(verbs), **answer}


def _question(verbs: Sequence[str]) -> str:
    return shlex.join(["outlook", *verbs])

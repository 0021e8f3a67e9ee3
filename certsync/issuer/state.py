"""What the issuer remembers between runs, in one JSON file: for itself, for status, for people.

Values only: for each lineage, when it is checked and renewed next and why; for each backend, what
it last served. Whatever can be checked again is never trusted from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.model import codec
from certsync.model.answers import PastRun
from certsync.model.codec import Moment
from certsync.model.proof import Proof, Verdict
from certsync.system.terminal import harmless_values

REMEMBERED = 50
"""Runs in the history. Of consecutive equal runs that changed nothing, only the last is kept."""


@dataclass(frozen=True)
class Known:
    """What is known about one backend. A moment that is None: never."""

    generation: str = ""
    """The generation it last served, if one of ours."""

    seen: Moment | None = None
    in_sync: Moment | None = None
    """When it was last proven to serve the current generation."""

    behind_since: Moment | None = None
    """Since when it has not been in sync; None: it is."""

    pushed: Moment | None = None
    """When a generation last arrived there."""

    error: str = ""


@dataclass(frozen=True)
class LineageState:
    """What is remembered about one lineage. A moment that is None: never, or unknown."""

    generation: str = ""
    not_before: Moment | None = None
    not_after: Moment | None = None
    next_check: Moment | None = None
    """When the CA is asked again whether to renew earlier."""

    next_renewal: Moment | None = None
    why: str = ""
    mixed_seconds: float | None = None
    """How long two generations were served side by side in the last rollout."""

    asked_all: Moment | None = None
    """When every backend was last asked what it holds, not only probed."""

    renewed_early_at: Moment | None = None
    """When a very young certificate was last renewed at the CA's suggestion."""

    renumbered_at: Moment | None = None
    """When a generation was last kept under another number, because replicas had used its own."""

    new_key: bool = False
    """Whether the next order must not reuse a key: it is not known which ones are compromised."""

    revoked: str = ""
    """A certificate known to be revoked, by its leaf's SHA-256 in hex."""

    revocation_asked: Moment | None = None
    """When the CA was last asked whether a certificate is revoked."""

    challenge_looked_at: Moment | None = None
    """When the path of a challenge was last looked at, although no order was due."""

    challenge_misses: tuple[str, ...] = ()
    """Where a challenge would have been lost then, in words."""

    challenge_missed_since: Moment | None = None
    """Since when it would be; None: it would not."""

    renewal_info: RenewalInfo | None = None
    """The CA's last suggestion for the newest generation (RFC 9773)."""

    tries: Tries = field(default_factory=Tries)
    backends: Mapping[str, Known] = field(default_factory=dict)

    def seen(self, proofs: list[Proof], pushed: tuple[str, ...], now: datetime) -> LineageState:
        """Return this updated from proofs; backends no longer in the fleet are dropped."""
        found = {}
        for proof in proofs:
            before = self.backends.get(proof.name, Known())
            good = proof.verdict is Verdict.IN_SYNC
            found[proof.name] = Known(
                generation=proof.generation or ("" if proof.fingerprint else before.generation),
                seen=now if proof.fingerprint else before.seen,
                in_sync=now if good else before.in_sync,
                # A moment in the future was written while the clock was wrong.
                behind_since=None if good else min(before.behind_since or now, now),
                pushed=now if proof.name in pushed else before.pushed,
                error="" if good else proof.why,
            )
        return replace(self, backends=found)


@dataclass(frozen=True)
class State:
    """The whole state file."""

    lineages: Mapping[str, LineageState] = field(default_factory=dict)
    runs: Mapping[str, PastRun] = field(default_factory=dict)
    """The last run of each verb."""

    history: tuple[PastRun, ...] = ()
    """Oldest first."""

    alerts: tuple[Mapping[str, Any], ...] = ()
    """Open alerts, as `alerts` saves them."""

    last_success: Moment | None = None

    def lineage(self, name: str) -> LineageState:
        """Return what is remembered about a lineage; nothing yet is fine."""
        return self.lineages.get(name, LineageState())

    def having(self, name: str, lineage: LineageState) -> State:
        """Return this with a lineage replaced."""
        return replace(self, lineages={**self.lineages, name: lineage})

    def ended(self, run: PastRun) -> State:
        """Return this with one more finished run."""
        last = self.history[-1] if self.history else None
        history = self.history
        if last and (last.verb, last.exit, last.error) == (run.verb, run.exit, run.error):
            history = history if last.did else history[:-1]
        history = (*history, run)[-REMEMBERED:]
        success = run.at if run.exit == 0 else self.last_success
        return replace(
            self, runs={**self.runs, run.verb: run}, history=history, last_success=success
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`; other machines' texts are made harmless."""
        data: dict[str, Any] = harmless_values(codec.plain(self))
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """Parse what `to_json` wrote; missing fields get their defaults.

        Raises:
            ValueError: it is not valid.
        """
        return codec.typed(_as_of_now(data), cls)


RENAMED = {
    "hurried": "renewed_early_at", "advice": "renewal_info", "wish": "request_key",
}  # fmt: skip
"""Keys that schema 1 called differently."""


def _as_of_now(data: Any) -> Any:
    """Convert data of schema 1, which used empty texts for unknown values."""
    if isinstance(data, Mapping):
        kept = {RENAMED.get(key, key): each for key, each in data.items() if each != ""}
        return {key: _as_of_now(each) for key, each in kept.items()}
    return [_as_of_now(each) for each in data] if isinstance(data, list) else data

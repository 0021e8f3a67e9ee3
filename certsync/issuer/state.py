"""What the issuer remembers between runs, in one JSON file: for itself, for status, for people.

Values only. Each lineage says when it is looked at and renewed next and why, each backend what it
was last seen to serve. What can be found out anew by looking is never believed from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from certsync.issuer.backoff import Tries
from certsync.issuer.ca.renewal_info import RenewalInfo
from certsync.model.moment import moment
from certsync.model.proof import Proof, Verdict
from certsync.system.terminal import harmless_values

REMEMBERED = 50
"""Runs in the history. Of runs that did nothing and ended alike only the last is kept."""


@dataclass(frozen=True)
class NotedRun:
    """How a command on the issuer ended."""

    verb: str
    at: str
    """ISO 8601, UTC."""

    exit: int
    error: str = ""
    hint: str = ""
    did: tuple[str, ...] = ()
    """What it changed, in words."""


@dataclass(frozen=True)
class Known:
    """What is known of one backend. Moments are ISO 8601, empty: never."""

    generation: str = ""
    """What it was seen to serve, where that is one of ours."""

    seen: str = ""
    in_sync: str = ""
    """When it was last proven to serve the current generation."""

    behind_since: str = ""
    """Since when it has not been; empty: it is in sync."""

    pushed: str = ""
    """When a generation last arrived there."""

    error: str = ""


@dataclass(frozen=True)
class Lineage:
    """What is remembered of one lineage."""

    generation: str = ""
    not_before: str = ""
    not_after: str = ""
    next_check: str = ""
    """When the CA is asked again whether it should be renewed earlier."""

    next_renewal: str = ""
    why: str = ""
    mixed_seconds: float | None = None
    """How long the last rollout had two generations served side by side."""

    asked_all: str = ""
    """When every backend was last asked what it holds, not only what it serves."""

    renewed_early_at: str = ""
    """When the CA's advice last had a certificate renewed in its first days."""

    refused_key: tuple[str, ...] = ()
    """Where an older version kept which replicas had refused the push key; see `Store.fence`."""

    accepted_key: tuple[str, ...] = ()
    """The same of those that had accepted it."""

    revoked: str = ""
    """The certificate that the CA was found to have revoked, by its leaf's SHA-256 in hex."""

    revocation_asked: str = ""
    """When the CA was last asked whether something that was live is revoked."""

    advice: RenewalInfo | None = None
    tries: Tries = field(default_factory=Tries)
    backends: Mapping[str, Known] = field(default_factory=dict)

    def seen(self, proofs: list[Proof], pushed: tuple[str, ...], now: datetime) -> Lineage:
        """Return this with what the proofs say; one no longer in the fleet is left out."""
        at = now.isoformat()
        found = {}
        for proof in proofs:
            before = self.backends.get(proof.name, Known())
            good = proof.verdict is Verdict.IN_SYNC
            found[proof.name] = Known(
                generation=proof.generation or ("" if proof.fingerprint else before.generation),
                seen=at if proof.fingerprint else before.seen,
                in_sync=at if good else before.in_sync,
                behind_since="" if good else _not_later(before.behind_since, at),
                pushed=at if proof.name in pushed else before.pushed,
                error="" if good else proof.why,
            )
        return replace(self, backends=found)


@dataclass(frozen=True)
class State:
    """All of it."""

    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    runs: Mapping[str, NotedRun] = field(default_factory=dict)
    """The last run of each verb."""

    history: tuple[NotedRun, ...] = ()
    """Oldest first."""

    alerts: tuple[Mapping[str, Any], ...] = ()
    """What people have been told of and is not over, as `alerts` keeps it."""

    last_success: str = ""

    def lineage(self, name: str) -> Lineage:
        """Return what is remembered of a lineage; nothing yet is no mistake."""
        return self.lineages.get(name, Lineage())

    def having(self, name: str, lineage: Lineage) -> State:
        """Return this with a lineage replaced."""
        return replace(self, lineages={**self.lineages, name: lineage})

    def ended(self, run: NotedRun) -> State:
        """Return this with one more run."""
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
        """Return it as what `json.dumps` takes; other machines' words are made harmless."""
        lineages = {
            name: {
                **{KEPT_AS.get(key, key): value for key, value in asdict(each).items()},
                "advice": each.advice.to_json() if each.advice else None,
                "tries": each.tries.to_json(),
            }
            for name, each in self.lineages.items()
        }
        data: dict[str, Any] = harmless_values({**asdict(self), "lineages": lineages})
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        """Return what `to_json` wrote; what is not there has its default.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        return cls(
            lineages={name: _lineage(each) for name, each in data.get("lineages", {}).items()},
            runs={verb: _run(each) for verb, each in data.get("runs", {}).items()},
            history=tuple(_run(each) for each in data.get("history", ())),
            alerts=tuple(data.get("alerts", ())),
            last_success=str(data.get("last_success", "")),
        )


def _not_later(moment: str, now: str) -> str:
    """Return a moment that was noted, unless a wrong clock noted it."""
    if not moment or datetime.fromisoformat(moment) > datetime.fromisoformat(now):
        return now
    return moment


def _run(data: Mapping[str, Any]) -> NotedRun:
    moment(data["at"])
    return NotedRun(**{**data, "did": tuple(data["did"])})


KEPT_AS = {
    "renewed_early_at": "hurried", "refused_key": "fenced_by", "accepted_key": "let_in_by",
}  # fmt: skip
"""What the file calls these, which an older version on the same issuer reads too."""

NAMED = {key: name for name, key in KEPT_AS.items()}
MOMENTS = (
    "not_before", "not_after", "next_check", "next_renewal", "asked_all", "hurried",
    "revocation_asked",
)  # fmt: skip
MOMENTS_OF_A_BACKEND = ("seen", "in_sync", "behind_since", "pushed")


def _check_moments(data: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Refuse what is no moment now, rather than in the middle of a run."""
    for name in names:
        if data.get(name):
            moment(data[name])


def _lineage(data: Mapping[str, Any]) -> Lineage:
    _check_moments(data, MOMENTS)
    for each in data["backends"].values():
        _check_moments(each, MOMENTS_OF_A_BACKEND)
    named = {NAMED.get(key, key): value for key, value in data.items()}
    return Lineage(
        **{
            **named,
            **{
                key: tuple(str(name) for name in named.get(key, ()))
                for key in ("refused_key", "accepted_key")
            },
            "advice": RenewalInfo.from_json(data["advice"]) if data["advice"] else None,
            "tries": Tries.from_json(data["tries"]),
            "backends": {name: Known(**each) for name, each in data["backends"].items()},
        }
    )

"""What certsync on the issuer answers to the operator's side, as values.

The issuer may run another version, or may be compromised: missing fields get their defaults, extra
fields are ignored, and anything invalid raises a ValueError, here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from certsync.model.codec import Moment
from certsync.model.moment import moment
from certsync.model.proof import Proof

PROTOCOL = 1
"""The version of what operator and issuer say to each other: these answers, the commands that the
operator runs there, and the rendered fleet. It grows when an older side would misunderstand or
refuse something, so with every schema of the rendered fleet, but not when a field is added. Issuers
from before it was counted send none."""

NOT_THESE = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
"""What decoding JSON of another shape raises."""


class NewerProtocolError(ValueError):
    """The other side uses a newer protocol than this version knows."""


@dataclass(frozen=True)
class PastRun:
    """How a command on the issuer ended."""

    verb: str
    at: Moment
    exit: int
    error: str = ""
    hint: str = ""
    did: tuple[str, ...] = ()
    """What it changed, in words."""


@dataclass(frozen=True)
class NextRenewal:
    """When a certificate will be renewed, and why then, in words."""

    moment: datetime
    why: str


@dataclass(frozen=True)
class Origin:
    """The fleet file that was deployed."""

    sha256: str
    at: str
    by: str


@dataclass(frozen=True)
class Proven:
    """What `certsync prove` saw, and what the issuer remembers. Mappings are by lineage."""

    current: str = ""
    """The number of the first lineage's current generation; empty: none yet."""

    proofs: Mapping[str, Mapping[str, Proof]] = field(default_factory=dict)
    """For each lineage, backend to proof."""

    renewals: Mapping[str, NextRenewal] = field(default_factory=dict)
    mixed_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long two generations were served side by side in the last rollout."""

    runs: Mapping[str, PastRun] = field(default_factory=dict)
    """The last run of each verb."""

    history: tuple[PastRun, ...] = ()
    """Oldest first."""

    last_success: datetime | None = None
    origin: Origin | None = None
    compromise: str = ""
    """What remains to be done about compromised keys, in words; empty: nothing."""

    unwritable: str = ""
    """Why the issuer's disk cannot be written; empty: it can, or an older issuer."""

    challenge: str = ""
    """Where a challenge would be lost, in words; empty: nowhere, or an older issuer."""

    protocol: int = 0
    """0: from before it was counted."""

    state: Mapping[str, Any] = field(default_factory=dict)
    """Everything it remembers, unparsed, for programs."""

    @classmethod
    def from_json(cls, data: Any, first: str) -> Proven:
        """Parse the output of `certsync prove --json`; ``first`` is the fleet's first lineage.

        Raises:
            NewerProtocolError: its protocol is newer.
            ValueError: it is not such an answer.
        """
        try:
            if int(data.get("protocol", 0)) > PROTOCOL:
                raise NewerProtocolError(f"protocol {int(data['protocol'])}")
            return _proven(data, first)
        except NewerProtocolError:
            raise
        except NOT_THESE as error:
            raise ValueError(f"not an answer from `certsync prove`: {error!r}") from None


def _proven(data: Mapping[str, Any], first: str) -> Proven:
    # The issuer may not know yet that another lineage comes first now.
    first = str(data.get("lineage") or first)
    state = data.get("state", {})
    proofs = {first: data.get("proofs", ()), **data.get("others", {})}
    groups = data.get("key_exchange", {})
    # An older issuer only says when the first one is renewed.
    renewals = {
        first: (data.get("next_renewal", ""), data.get("why", "")), **data.get("renewals", {})
    }  # fmt: skip
    seconds = {name: each.get("mixed_seconds") for name, each in _items(state, "lineages")}
    origin, last_success = data.get("origin"), state.get("last_success", "")
    return Proven(
        current=str(data.get("current", "")),
        proofs={name: _proofs(each, groups.get(name, {})) for name, each in proofs.items()},
        renewals={
            lineage: NextRenewal(moment(at), str(why))
            for lineage, (at, why) in renewals.items()
            if at
        },
        mixed_seconds={name: float(each) for name, each in seconds.items() if each is not None},
        runs={verb: _run(each) for verb, each in _items(state, "runs")},
        history=tuple(_run(each) for each in state.get("history", ())),
        last_success=moment(last_success) if last_success else None,
        origin=_origin(origin) if origin else None,
        compromise=str(data.get("compromise", "")),
        unwritable=str(data.get("unwritable", "")),
        challenge=str(data.get("challenge", "")),
        protocol=int(data.get("protocol", 0)),
        state=dict(state),
    )


def _items(data: Mapping[str, Any], key: str) -> Iterable[tuple[str, Any]]:
    found: Mapping[str, Any] = data.get(key, {})
    return found.items()


def _origin(data: Mapping[str, Any]) -> Origin:
    return Origin(str(data["sha256"]), str(data["at"]), str(data["by"]))


def _proofs(said: Iterable[Mapping[str, Any]], groups: Mapping[str, Any]) -> dict[str, Proof]:
    proofs = map(Proof.from_json, said)
    return {each.name: each.choosing(groups.get(each.name)) for each in proofs}


def _run(data: Mapping[str, Any]) -> PastRun:
    verb, error, hint = (str(data.get(key, "")) for key in ("verb", "error", "hint"))
    did = tuple(str(each) for each in data.get("did", ()))
    return PastRun(verb, moment(data["at"]), int(data["exit"]), error, hint, did)

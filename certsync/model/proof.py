"""What a probe means: the verdict on one backend, the same for status, gate and rollout. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from certsync.model.generation import Manifest, number_text
from certsync.model.moment import moment


class Verdict(str, Enum):
    """How a backend stands towards the current generation."""

    IN_SYNC = "in sync"
    """It serves the current leaf and the full chain, and a client trusts them."""

    BEHIND = "behind"
    """It serves another certificate that a client still trusts."""

    WRONG = "wrong"
    """A client would refuse what it serves: wrong name or chain, expired, not trusted."""

    UNREACHABLE = "unreachable"
    """No handshake came about."""


@dataclass(frozen=True)
class Served:
    """What a handshake showed."""

    chain: tuple[bytes, ...]
    """Certificates as sent, DER, leaf first."""

    refusal: str
    """Why a client that trusts the roots would refuse it; empty: it would not."""

    not_before: datetime | None = None
    """From when the leaf is valid; None: a client would refuse it."""


@dataclass(frozen=True)
class Unreachable:
    """No handshake came about, and why."""

    why: str
    no_route: bool = False
    """Whether this machine has no way out to such an address at all: it says nothing about it."""


@dataclass(frozen=True)
class Proof:
    """One backend, as it was seen."""

    name: str
    verdict: Verdict
    generation: str
    """The number of what it serves, where that is one of ours; else empty."""

    fingerprint: str
    """SHA-256 of the served leaf, in hex; empty: unreachable."""

    not_after: str
    """End of the served generation's validity, ISO 8601; empty: not one of ours."""

    why: str
    """What is wrong, in words; empty: in sync."""

    not_before: datetime | None = None
    """From when the served leaf is valid, where clients take it; never part of the JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes, for operators of any version."""
        data = {**self.__dict__, "verdict": self.verdict.value}
        del data["not_before"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Proof:
        """Return what `to_json` wrote, here or on another machine; what is said besides is ignored.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        not_after = str(data.get("not_after", ""))
        if not_after:
            moment(not_after)
        return cls(
            str(data["name"]),
            Verdict(data["verdict"]),
            str(data.get("generation", "")),
            str(data.get("fingerprint", "")),
            not_after,
            str(data.get("why", "")),
        )


def judge(
    name: str,
    seen: Served | Unreachable,
    chain: tuple[bytes, ...],
    manifests: Iterable[Manifest],
    current: Manifest | None,
    now: datetime,
) -> Proof:
    """Return the verdict on a backend.

    ``chain`` is the current generation's, DER, leaf first; ``manifests`` are all that the issuer
    keeps, to tell by number what a backend serves instead.
    """
    if isinstance(seen, Unreachable):
        return Proof(name, Verdict.UNREACHABLE, "", "", "", seen.why)
    served = hashlib.sha256(seen.chain[0]).hexdigest()
    known = next((each for each in manifests if each.fingerprint == served), None)
    number = number_text(known.number) if known else ""
    not_after = known.not_after.isoformat() if known else ""
    verdict, why = _verdict(seen, chain, current, known, now)
    return Proof(name, verdict, number, served, not_after, why, seen.not_before)


def _verdict(
    seen: Served,
    chain: tuple[bytes, ...],
    current: Manifest | None,
    known: Manifest | None,
    now: datetime,
) -> tuple[Verdict, str]:
    what = f"generation {number_text(known.number)}" if known else "a certificate not made here"
    if seen.refusal:
        return Verdict.WRONG, f"it serves {what}: {seen.refusal}"
    if current is None:
        return Verdict.BEHIND, f"it serves {what}, and no generation has been issued"
    if known != current:
        return Verdict.BEHIND, f"it serves {what}"
    if seen.chain != chain:
        return Verdict.WRONG, f"it serves {len(seen.chain)} certificates, not the full chain"
    if now >= current.not_after:
        return Verdict.WRONG, f"it serves {what}: expired"
    return Verdict.IN_SYNC, ""

"""Judge what a probe saw: one verdict per backend, shared by status, gate and rollout. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from certsync.model.generation import Manifest, number_text
from certsync.model.moment import moment

GROUPS: Mapping[int, str] = {
    0x11EC: "X25519MLKEM768", 0x001D: "x25519", 0x0017: "secp256r1", 0x0018: "secp384r1",
}  # fmt: skip
"""Groups for the key exchange of TLS 1.3, by IANA's number, as a client prefers them. The first one
resists quantum computers (draft-ietf-tls-ecdhe-mlkem)."""


class Verdict(str, Enum):
    """How what a backend serves compares with the current generation."""

    IN_SYNC = "in sync"
    """It serves the current leaf and the full chain, and a client trusts them."""

    BEHIND = "behind"
    """It serves another certificate that clients still trust."""

    WRONG = "wrong"
    """Clients would reject what it serves: wrong name or chain, expired, not trusted."""

    UNREACHABLE = "unreachable"
    """The handshake failed."""


@dataclass(frozen=True)
class Served:
    """What a handshake showed."""

    chain: tuple[bytes, ...]
    """Certificates as sent, DER, leaf first."""

    refusal: str
    """Why a client that trusts the roots would reject it; empty: it would not."""

    not_before: datetime | None = None
    """When the leaf's validity begins; None: a client would reject it for more than its dates."""

    not_after: datetime | None = None
    """When it ends; None: as above."""


@dataclass(frozen=True)
class Unreachable:
    """The handshake failed, and why."""

    why: str
    no_route: bool = False
    """Whether this machine has no route to such an address: that says nothing about the host."""


@dataclass(frozen=True)
class Proof:
    """The verdict on one backend."""

    name: str
    verdict: Verdict
    generation: str
    """The number of the generation it serves; empty: not one of ours."""

    fingerprint: str
    """SHA-256 of the served leaf, in hex; empty: unreachable."""

    not_after: str
    """End of the served generation's validity, ISO 8601; empty: not one of ours."""

    why: str
    """What is wrong, in words; empty: in sync."""

    not_before: datetime | None = None
    """When the served leaf's validity begins; None: clients would reject it whatever the date.
    Never part of the JSON."""

    leaf_ends: datetime | None = None
    """When it ends; None: as above. Never part of the JSON."""

    key_exchange: str = ""
    """The group it chooses of `GROUPS`; empty: unknown, or it was not asked. Never part of the
    JSON: operators from before it would refuse the whole answer."""

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`, for operators of any version."""
        data = {**self.__dict__, "verdict": self.verdict.value}
        del data["not_before"], data["leaf_ends"], data["key_exchange"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Proof:
        """Parse what `to_json` wrote, here or on another machine; extra fields are ignored.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is not a proof.
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

    def choosing(self, group: object) -> Proof:
        """Return it with the key exchange ``group``, if that is the name of one of `GROUPS`."""
        known = next((each for each in GROUPS.values() if each == group), "")
        return replace(self, key_exchange=known)


def judge(
    name: str,
    seen: Served | Unreachable,
    chain: tuple[bytes, ...],
    manifests: Iterable[Manifest],
    current: Manifest | None,
    now: datetime,
) -> Proof:
    """Return the verdict on a backend.

    ``chain`` is the current generation's, DER, leaf first; ``manifests`` are all the issuer keeps,
    to identify what a backend serves instead.
    """
    if isinstance(seen, Unreachable):
        return Proof(name, Verdict.UNREACHABLE, "", "", "", seen.why)
    served = hashlib.sha256(seen.chain[0]).hexdigest()
    known = next((each for each in manifests if each.fingerprint == served), None)
    number = number_text(known.number) if known else ""
    not_after = known.not_after.isoformat() if known else ""
    verdict, why = _verdict(seen, chain, current, known, now)
    begins, ends = seen.not_before, seen.not_after
    return Proof(name, verdict, number, served, not_after, why, begins, ends)


def _verdict(
    seen: Served,
    chain: tuple[bytes, ...],
    current: Manifest | None,
    known: Manifest | None,
    now: datetime,
) -> tuple[Verdict, str]:
    what = f"generation {number_text(known.number)}" if known else "a certificate not issued here"
    if seen.refusal:
        return Verdict.WRONG, f"it serves {what}: {seen.refusal}"
    if current is None:
        return Verdict.BEHIND, f"it serves {what}; no generation has been issued yet"
    if known != current:
        return Verdict.BEHIND, f"it serves {what}"
    if seen.chain != chain:
        return Verdict.WRONG, f"it serves {len(seen.chain)} certificate(s), not the full chain"
    if now >= current.not_after:
        return Verdict.WRONG, f"it serves {what}, which has expired"
    return Verdict.IN_SYNC, ""

"""One numbered certificate of a lineage, by its manifest, and which one should be live.

Nothing here reads a clock or a file. The manifest is small JSON, so that the hourly run, which only
needs names, dates and fingerprints, does not load cryptography.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from certsync.model.errors import NewerSchemaError, StoreError
from certsync.programs.receiver import KEPT, SCHEMA

LAST = 9999
"""The highest number: a generation's folder has four digits."""

NEAR = 16
"""How far above the issuer's own number a replica's claim is believed, so that a replica that
claims thousands cannot use up the numbers."""

KEPT_AT_MOST = KEPT + 3
"""Generations that a replica keeps: the newest, the live one, and any received since pruning."""


@dataclass(frozen=True)
class Manifest:
    """What describes a generation: written with it and never edited."""

    lineage: str
    number: int
    names: tuple[str, ...]
    """DNS names on the certificate, sorted."""

    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the leaf's DER, in hex."""

    key_type: str
    directory: str
    """The ACME directory of the CA that signed it."""

    account: str
    """The account's URL at that CA."""

    files: Mapping[str, str]
    """SHA-256, in hex, of each PEM file."""

    order: str = ""
    """The order's URL at that CA."""

    renewal_id: str = ""
    """The certificate's identifier for renewal information (RFC 9773 section 4.1)."""

    asked: tuple[str, ...] = ()
    """The names that were ordered, sorted: a CA may have added others. Empty: all of ``names``."""

    def to_json(self) -> bytes:
        """Return the manifest file's content."""
        data = {
            "schema": SCHEMA,
            "lineage": self.lineage,
            "number": number_text(self.number),
            "names": list(self.names),
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "fingerprint": self.fingerprint,
            "key_type": self.key_type,
            "directory": self.directory,
            "account": self.account,
            "order": self.order,
            "renewal_id": self.renewal_id,
            "asked": list(self.asked),
            "files": dict(self.files),
        }
        return json.dumps(data, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Manifest:
        """Parse a manifest file; ``where`` is named in errors.

        Raises:
            NewerSchemaError: its schema is newer.
            StoreError: it is not a manifest.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["schema"] > SCHEMA:
                raise NewerSchemaError(
                    f"{where} has schema {data['schema']}, but this certsync reads up to {SCHEMA}",
                    "a newer certsync wrote it: deploy again with that version",
                )
            return cls(
                lineage=data["lineage"],
                number=int(data["number"]),
                names=tuple(data["names"]),
                not_before=_moment(data["not_before"]),
                not_after=_moment(data["not_after"]),
                fingerprint=data["fingerprint"],
                key_type=data["key_type"],
                directory=data["directory"],
                account=data["account"],
                files=dict(data["files"]),
                order=str(data.get("order", "")),
                renewal_id=str(data.get("renewal_id", "")),
                asked=tuple(data.get("asked", ())),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise StoreError(f"{where} is not a manifest: {error!r}") from None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def number_text(number: int) -> str:
    """Return a generation's number in the form of its folder's name."""
    return f"{number:04}"


def next_free(own: int, claimed: Collection[int]) -> int:
    """Return the next generation's number; 0 is each backend's own placeholder.

    ``own`` is the highest that the issuer has used, ``claimed`` what replicas say they have.
    Claimed numbers near ``own`` are skipped, unless all of them are claimed.

    Raises:
        StoreError: the numbers are used up.
    """
    if own >= LAST:
        raise StoreError(
            f"nothing was ordered: {number_text(own)} is the highest possible generation number",
            "on the issuer, move the folders with the highest numbers out of the archive, run "
            "`/usr/local/lib/certsync/receiver boot`, which points the live link to another one, "
            "then `certsync renew --force`: numbering continues from the highest one left",
        )
    near = range(own + 1, min(own + NEAR, LAST) + 1)
    return next((each for each in near if each not in claimed), own + 1)


def believed(own: int, claims: Iterable[Collection[int]]) -> set[int]:
    """Return the numbers near the issuer's ``own`` that replicas have used.

    ``claims`` are each replica's numbers. A replica that claims more than it can keep is not
    believed, and so does not affect the others' claims.
    """
    near = range(own + 1, own + NEAR + 1)
    found = [{number for number in each if number in near} for each in claims]
    return {number for each in found if len(each) <= KEPT_AT_MOST for number in each}


def target(numbers: Collection[int], withdrawn: Collection[int]) -> int | None:
    """Return the number that should be live everywhere, or None before the first issue.

    It is the newest of ``numbers``, those whose files are intact. If it is above the current one,
    an interrupted run made it but did not roll it out; that is finished before anything new. If it
    is below, the current one was rolled back or is damaged. A withdrawn one is never activated
    again.
    """
    return max((each for each in numbers if each > 0 and each not in withdrawn), default=None)


def before(numbers: Collection[int], withdrawn: Collection[int], number: int) -> int | None:
    """Return the generation that a rollback from ``number`` activates; None: there is none."""
    return target([each for each in numbers if each < number], withdrawn)

"""One numbered member of a lineage, as its manifest tells it, and which one should be live.

Nothing here reads a clock or a file. The manifest is small JSON so that the hourly run, which
needs no more than names, dates and fingerprints, loads no cryptography.
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
"""How far above the issuer's own number a replica's claim is believed: one that claims thousands
must not use up the numbers."""

KEPT_AT_MOST = KEPT + 3
"""Generations that a replica keeps: the newest, the live one, and what came since it was pruned."""


@dataclass(frozen=True)
class Manifest:
    """What a generation is, written when it is made and never edited."""

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
        """Return the manifest in a file's content; ``where`` is told in the error.

        Raises:
            NewerSchemaError: it is of a newer schema.
            StoreError: it is none.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data["schema"] > SCHEMA:
                raise NewerSchemaError(
                    f"{where} has schema {data['schema']}, and this certsync reads {SCHEMA}",
                    "a newer certsync has been here: deploy that one again",
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
            raise StoreError(f"{where} is no manifest: {error!r}") from None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def number_text(number: int) -> str:
    """Return a generation's number as its folder is named."""
    return f"{number:04}"


def next_free(own: int, claimed: Collection[int]) -> int:
    """Return the number of the next generation; 0 is each backend's own placeholder.

    ``own`` is the highest that the issuer has used, ``claimed`` what replicas say they have. Claims
    are passed over where they are near ``own``; who claims all of these is not believed at all.

    Raises:
        StoreError: the numbers are used up.
    """
    if own >= LAST:
        raise StoreError(
            f"{number_text(own)} is the highest number of a generation, so nothing is ordered",
            "on the issuer, move the folders with the highest numbers out of the archive, run "
            "`/usr/local/lib/certsync/receiver boot`, which leads the live link to another one, "
            "then `certsync renew --force`: numbers go on from the highest that is left",
        )
    near = range(own + 1, min(own + NEAR, LAST) + 1)
    return next((each for each in near if each not in claimed), own + 1)


def believed(own: int, claims: Iterable[Collection[int]]) -> set[int]:
    """Return the numbers near the issuer's ``own`` that replicas have given away.

    ``claims`` are the numbers of each replica. One that claims more of them than a replica keeps
    is not believed, and so leaves the others' claims as they are.
    """
    near = range(own + 1, own + NEAR + 1)
    found = [{number for number in each if number in near} for each in claims]
    return {number for each in found if len(each) <= KEPT_AT_MOST for number in each}


def target(numbers: Collection[int], withdrawn: Collection[int]) -> int | None:
    """Return the number that should be live everywhere, or None before the first issue.

    It is the newest of ``numbers``, those whose files are whole. Above the current one it is a
    generation that an interrupted run made and did not get out, which is finished before anything
    new; below it, the current one was rolled back or is damaged. One that was rolled back is never
    activated again.
    """
    return max((each for each in numbers if each > 0 and each not in withdrawn), default=None)


def before(numbers: Collection[int], withdrawn: Collection[int], number: int) -> int | None:
    """Return the generation that a rollback from ``number`` leads to, or None if there is none."""
    return target([each for each in numbers if each < number], withdrawn)

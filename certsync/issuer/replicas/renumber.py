"""A number that a replica has already used for a different certificate is given up for a new one.

A restored issuer may count anew what its replicas have counted before. The same certificate is then
kept under the next free number; no order is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from certsync.issuer.replicas import rollout
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.run import Run
from certsync.issuer.situation import Situation
from certsync.model.generation import believed, next_free, number_text
from certsync.model.proof import Proof
from certsync.programs import receiver

AGAIN = timedelta(days=1)
"""A replica may claim any number again and again: this bounds what that costs."""


def colliding(seen: Situation, number: int, standings: Sequence[Standing]) -> list[str]:
    """Return the replicas that have a different generation of this number."""
    text, manifest_sum = number_text(number), seen.kept[number].manifest_sum
    return [
        each.name
        for each in standings
        if each.reached and each.generations.get(text, manifest_sum) != manifest_sum
    ]


def is_due(
    seen: Situation, number: int, served: Sequence[Proof], last: datetime | None, now: datetime
) -> bool:
    """Return whether a number may be given up now.

    Not for a certificate that is older than what a backend serves: under a higher number it would
    look newer. ``last`` is when a number was given up before.
    """
    if rollout.serving_newer(seen.kept[number].manifest, served, now):
        return False
    return last is None or not timedelta(0) <= now - last < AGAIN


def if_used_otherwise(run: Run, standings: Sequence[Standing], served: Sequence[Proof]) -> None:
    """Keep the newest generation under the next free number as well, where that is due.

    ``served`` is what the backends serve.

    Raises:
        StoreError: the disk cannot be written, or the numbers are used up.
    """
    seen, number = run.seen, run.seen.target or 0
    names = colliding(seen, number, standings)
    if not names or not is_due(seen, number, served, run.known.renumbered_at, run.now):
        return
    own = max({*seen.numbers, *seen.barred})
    free = next_free(own, believed(own, [rollout.claims(each) for each in standings]))
    files = seen.store.files(seen.name, number)
    manifest = replace(seen.kept[number].manifest, number=free)
    seen.store.keep_files(manifest, {**files, receiver.MANIFEST: manifest.to_json()})
    run.note(renumbered_at=run.now)
    run.tell(
        f"{', '.join(names)} used number {number_text(number)} for a different certificate: "
        f"generation {number_text(number)} is kept as {number_text(free)}, too"
    )
    run.look_again()

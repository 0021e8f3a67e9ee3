"""What was issued and may be pruned by now: it can be revoked although its files are gone.

The record has what a revocation by the account needs (RFC 8555 section 7.6), and no private key. It
is written before each order's certificate is kept, when the archive still has all that the next
activation may prune.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certsync.issuer.compromise import CompromisedKey
from certsync.issuer.situation import Situation
from certsync.model import codec
from certsync.model.errors import BrokenStateError


def of_archive(seen: Situation, number: int) -> CompromisedKey:
    """Return a kept generation with all that its revocation needs; of a damaged one, its number.

    Raises:
        StoreError: its files cannot be read.
    """
    if number not in seen.kept:
        return CompromisedKey(number)
    found, files = seen.kept[number].manifest, seen.store.files(seen.name, number)
    return CompromisedKey(
        number,
        found.files["privkey.pem"],
        found.directory,
        found.account,
        found.not_after,
        files["cert.pem"].decode(),
        files["privkey.pem"].decode(),
    )


def read(seen: Situation) -> dict[int, CompromisedKey]:
    """Return what is recorded, by number. A corrupt record counts as empty."""
    try:
        data = seen.store.read_state(seen.store.issued_file(seen.name))
        found = codec.typed(data.get("issued", ()), tuple[CompromisedKey, ...])
    except (BrokenStateError, *codec.NOT_THESE):
        return {}
    return {each.number: each for each in found}


def note(seen: Situation, now: datetime) -> None:
    """Record all that is kept, and go on knowing what is gone, until it has expired.

    Raises:
        StoreError, OSError: the disk cannot be read or written.
    """
    kept = {number: replace(of_archive(seen, number), key="") for number in seen.kept}
    among = {**read(seen), **kept}
    left = tuple(each for _, each in sorted(among.items()) if each.is_to_be_revoked(now))
    path = seen.store.issued_file(seen.name)
    seen.store.write_state(path, {"issued": codec.plain(left)})


def pruned(seen: Situation, now: datetime) -> tuple[CompromisedKey, ...]:
    """Return what clients would still accept, although its files are no longer kept."""
    found = read(seen)
    return tuple(
        found[number]
        for number in sorted(set(found) - set(seen.numbers))
        if found[number].is_to_be_revoked(now)
    )

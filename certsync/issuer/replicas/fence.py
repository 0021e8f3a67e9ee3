"""Decide whether this machine may still act as the issuer: do replicas accept its push key? Pure.

A promotion replaces our key with another issuer's, and raises the epoch. An issuer that was demoted
while it was off, or is restored from before, does not know about it. A replica that accepts the key
but has a later epoch counts as one that refuses it: it may be lying, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certsync.issuer.replicas.rollout import Standing
from certsync.model.codec import Moment
from certsync.model.epoch import Epoch
from certsync.model.errors import FencedError

REMEMBERED = timedelta(days=7)
"""How long a refusal counts if its replica has been unreachable since."""

CLAIMS_LATER = (
    "it says that it accepts a later issuer, but nothing else indicates that one was promoted: to "
    "give this issuer a new epoch, run `certsync promote FLEET {}`"
)
LEFT_OUT = (
    "refuses the push key, but nothing indicates that another backend was promoted, so it is "
    "skipped: check AllowUsers, AllowGroups, AuthenticationMethods and AuthorizedKeysFile in "
    "`sshd -T` there, then run `certsync deploy FLEET`"
)


@dataclass(frozen=True)
class Fence:
    """What is remembered about replicas accepting or refusing the push key."""

    refused: Mapping[str, Moment] = field(default_factory=dict)
    """Replicas that refused it when last reached, although they had accepted it before, and when
    that was."""

    accepted: tuple[str, ...] = ()
    """Replicas that have ever accepted it."""

    def seeing(
        self, replicas: Sequence[Standing], now: datetime, later: Collection[str] = ()
    ) -> Fence:
        """Return this with the replicas' current answers; those that left the fleet are dropped.

        A replica that never accepted the key counts as unreachable: its deploy was interrupted, or
        a promotion to this issuer missed it. A refusal is kept for up to a week while its replica
        is unreachable, because sshd stops answering for a while after several refusals.

        ``later`` are replicas that have a later issuer's epoch.
        """
        accepted = {each.name for each in replicas if each.reached or each.name in self.accepted}
        refused = {
            each.name: at
            for each in replicas
            if not each.reached and (at := self._refused(each, accepted, now)) is not None
        }
        return Fence({**refused, **dict.fromkeys(later, now)}, tuple(sorted(accepted)))

    def _refused(
        self, replica: Standing, accepted: Collection[str], now: datetime
    ) -> datetime | None:
        if replica.refuses_key:
            return now if replica.name in accepted else None
        # A moment in the future was written while the clock was wrong.
        at = min(self.refused.get(replica.name, now - REMEMBERED), now)
        return at if now - at < REMEMBERED else None


def is_exception(
    refusing: Collection[str], accepting: Collection[str], leads_here: bool | None, *, late: bool
) -> bool:
    """Return whether the replicas that refuse the key are at fault, and not this issuer.

    There are two witnesses: at least as many replicas that accept the key, and where challenges
    arrive (None: unknown). Both have to speak for this issuer. If the live certificate is about to
    expire (``late``), one is enough, unless challenges arrive elsewhere.
    """
    others = len(accepting) >= max(1, len(refusing))
    if not late:
        return others and leads_here is True
    return leads_here is True or (others and leads_here is None)


def later_than(own: Epoch | None, replicas: Sequence[Standing]) -> dict[str, Epoch]:
    """Return the replicas that accept an issuer after this one, or another fleet's.

    ``own`` is this issuer's epoch; None: it has none yet.
    """
    if own is None:
        return {}
    return {each.name: each.epoch for each in replicas if each.epoch and each.epoch.ends(own)}


def replaced(own: Epoch, later: Mapping[str, Epoch], leads_here: bool | None) -> FencedError:
    """Return the error that names the replicas with a later issuer's epoch."""
    on = ", ".join(
        f"{name} accepts the issuer of "
        f"{f'epoch {each.number}' if each.fleet == own.fleet else 'another fleet'}"
        for name, each in sorted(later.items())
    )
    return FencedError(
        f"{on}, and this one is of epoch {own.number}: nothing was ordered or activated",
        "another backend was promoted since, or this machine was restored from a backup or "
        "snapshot made before; `certsync promote FLEET NAME` makes NAME the issuer "
        f"({_seen(leads_here)})",
    )


def refusal(refusing: Collection[str], leads_here: bool | None) -> FencedError:
    """Return the error that names the replicas that refuse this issuer's push key."""
    verb = "refuse" if len(refusing) > 1 else "refuses"
    return FencedError(
        f"{', '.join(sorted(refusing))} {verb} this issuer's push key: "
        "nothing was ordered or activated",
        "if another backend was promoted, run `certsync promote FLEET NAME` again to demote this "
        f"one; if not, run `certsync deploy FLEET` ({_seen(leads_here)})",
    )


def _seen(leads_here: bool | None) -> str:
    if leads_here is None:
        return "it is unknown where challenges arrive"
    return "challenges still arrive here" if leads_here else "challenges no longer arrive here"

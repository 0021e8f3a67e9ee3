"""Whether an order is due, and why, from the issuer's disk and the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from certsync.issuer.backoff import Tries
from certsync.issuer.schedule import (
    Due,
    NextRenewal,
    Withdrawal,
    issuance_due,
    last_chance,
    renewal,
    young_until,
)
from certsync.issuer.situation import Situation
from certsync.issuer.state import LineageState
from certsync.model.generation import Manifest, number_text


@dataclass(frozen=True)
class Outlook:
    """What `issue` would do now."""

    newest: Manifest | None
    """The generation that is live or should be."""

    due: Due | None
    coming: NextRenewal | None
    """When the newest generation should be renewed; None: there is none."""

    tries: Tries
    """The failures of the current request."""

    last_error: str = ""
    """Why the last attempt failed, whatever its request."""

    compromised: str = ""
    """Why the newest one must no longer be served: its key or a revocation; empty: it may."""

    account: str = ""
    """Why the account could not order, even if no order is due; empty: it could."""

    @property
    def reasons(self) -> list[str]:
        """What would be done, and why, in words; empty: nothing."""
        if self.due:
            return [self.due.why]
        return [f"no order is due, but {self.account}: register it again"] if self.account else []

    def next(self, now: datetime) -> NextRenewal | None:
        """Return when an unattended run orders next; after failures, not before the back-off."""
        again = self.tries.next(now, last_chance(self.newest))
        if self.coming is None or again <= max(self.coming.moment, now):
            return self.coming
        return NextRenewal(again, f"the last attempt failed: {self.last_error}")


def outlook(seen: Situation, known: LineageState, now: datetime, *, force: bool = False) -> Outlook:
    """Return whether an order is needed and why, without talking to the CA.

    ``known`` is the lineage's remembered state.
    """
    number = seen.target
    if number is None and seen.current in seen.kept:
        # It must not be activated again, but nothing better exists yet: the next one replaces it.
        number = seen.current
    newest = seen.kept[number].manifest if number else None
    compromised = seen.marks.why(number) if number else ""
    if newest is not None and known.revoked == newest.fingerprint and now >= young_until(newest):
        # Otherwise a CA that revokes every new one at once would get an order every hour.
        compromised = compromised or f"the CA has revoked generation {number_text(newest.number)}"
    withdrawal = _withdrawal(seen, number or 0, now)
    fleet, early = seen.fleet, known.renewed_early_at
    due = issuance_due(
        newest, fleet, seen.lineage, now, known.renewal_info, withdrawal, early, compromised
    )
    if due is None and force:
        due = Due("it was requested", first=False)
    every = timedelta(hours=fleet.renewal.every_hours)
    coming = renewal(newest, known.renewal_info, every, now, withdrawal, early) if newest else None
    if compromised:
        coming = NextRenewal(now, compromised)
    tries = known.tries.of(request_key(seen))
    return Outlook(
        newest, due, coming, tries, known.tries.error, compromised, _account(seen, newest)
    )


def _account(seen: Situation, newest: Manifest | None) -> str:
    directory = seen.fleet.authority.directory
    had_one = newest is not None and newest.directory == directory and bool(newest.account)
    # If there never was one, the first order registers it.
    return seen.account if had_one or seen.store.account(directory).exists() else ""


def has_something(looks: Sequence[Situation]) -> bool:
    """Return whether any of several lineages has a certificate."""
    return len(looks) > 1 and any(one.target is not None for one in looks)


def _withdrawal(seen: Situation, number: int, now: datetime) -> Withdrawal | None:
    """Return the rollback that led to a generation; None: none did."""
    newer = {each: at for each, at in seen.withdrawn.items() if each > number}
    if not newer:
        return None
    return Withdrawal(min(max(newer.values()), now), seen.manifests.get(max(newer)))


def request_key(seen: Situation) -> str:
    """Return what the fleet file requests: failures only count for the same request."""
    lineage = seen.lineage
    asked = (
        seen.fleet.authority.directory, *lineage.names, lineage.key_type.value, lineage.profile,
    )  # fmt: skip
    return " ".join(asked)

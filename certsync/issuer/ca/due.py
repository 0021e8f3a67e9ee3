"""Whether an order is due, and why: what the issuer's disk and the fleet say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from certsync.issuer.ca import registration
from certsync.issuer.schedule import (
    Due,
    NextRenewal,
    Withdrawal,
    issuance_due,
    renewal,
    young_until,
)
from certsync.issuer.state import Lineage
from certsync.issuer.store import Store
from certsync.model.fleet import Fleet
from certsync.model.generation import Manifest, number_text

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What issuing would do now."""

    fleet: Fleet
    newest: Manifest | None
    """The generation that is or will be live."""

    due: Due | None
    coming: NextRenewal | None
    """When the newest generation is to be renewed; None: there is none."""

    lineage: Lineage
    """What is remembered of it."""

    compromised: str = ""
    """Why the newest one must not be served any longer: its key, or a revocation; empty: it may."""

    account: str = ""
    """Why the account could not order, whether an order is due or not; empty: it could."""

    @property
    def reasons(self) -> list[str]:
        """What would be done and why, in words; empty: nothing."""
        if self.due:
            return [self.due.why]
        return [f"no order, but {self.account}: registering at the CA"] if self.account else []

    def next(self, now: datetime) -> NextRenewal | None:
        """Return when an unattended run orders next, after failures no sooner than they allow."""
        again = self.lineage.tries.of(wish(self.fleet)).next(now)
        if self.coming is None or again <= max(self.coming.moment, now):
            return self.coming
        return NextRenewal(again, f"the last try failed: {self.lineage.tries.error}")


def outlook(store: Store, now: datetime, *, force: bool = False) -> Outlook:
    """Return whether an order is needed and why, without talking to the CA.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    manifests = store.manifests(fleet.lineage)
    number = store.target(fleet.lineage)
    marks = store.compromised(fleet.lineage)
    if number is None and (live := store.current(fleet.lineage)) in manifests:
        # It must not go live again, and nothing better is there yet: the next one follows it.
        number = live
    newest = manifests[number] if number else None
    compromised = marks.why(number) if number else ""
    known = store.recall().lineage(fleet.lineage)
    if newest is not None and known.revoked == newest.fingerprint and now >= young_until(newest):
        # A CA that revokes every new one at once would get an order every hour.
        compromised = compromised or f"the CA has revoked generation {number_text(newest.number)}"
    withdrawal = _withdrawal(store, fleet.lineage, manifests, number or 0, now)
    every = timedelta(hours=fleet.renewal.every_hours)
    renewed_early_at = (
        datetime.fromisoformat(known.renewed_early_at) if known.renewed_early_at else None
    )
    due = issuance_due(newest, fleet, now, known.advice, withdrawal, renewed_early_at, compromised)
    if due is None and force:
        due = Due("it was asked for", first=False)
    coming = (
        renewal(newest, known.advice, every, now, withdrawal, renewed_early_at) if newest else None
    )
    if compromised:
        coming = NextRenewal(now, compromised)
    return Outlook(fleet, newest, due, coming, known, compromised, _account(fleet, store, newest))


def _account(fleet: Fleet, store: Store, newest: Manifest | None) -> str:
    directory = fleet.authority.directory
    expected = newest is not None and newest.directory == directory and bool(newest.account)
    return registration.finding(store.account(directory), expected=expected)


def has_something(store: Store) -> bool:
    """Return whether one of several lineages has a certificate, whatever the others lack."""
    stores = store.lineages()
    return len(stores) > 1 and any(one.target(one.lineage) is not None for one in stores)


def _withdrawal(
    store: Store, lineage: str, manifests: Mapping[int, Manifest], number: int, now: datetime
) -> Withdrawal | None:
    """Return the rollback that led to a generation, or None if none did."""
    newer = {each: at for each, at in store.withdrawn(lineage).items() if each > number}
    if not newer:
        return None
    return Withdrawal(min(max(newer.values()), now), manifests.get(max(newer)))


def wish(fleet: Fleet) -> str:
    """Return what the fleet file asks the CA for: a failure counts for the same wish only."""
    asked = (fleet.authority.directory, *fleet.names, fleet.key_type.value, fleet.profile)
    return " ".join(asked)

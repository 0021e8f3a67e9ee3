"""`certsync enroll`, on a new issuer: have an account of its own at the CA, first of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.fleet import Fleet
from certsync.model.generation import number_text

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What is to be done before this host orders anything."""

    fleet: Fleet
    registered: bool
    """Whether an account is there."""

    newer: Mapping[str, tuple[int, ...]]
    """Of each lineage the generations above the live one that are not withdrawn yet, if any."""

    def steps(self) -> list[str]:
        """Return what is to be done, in words; nothing: all of it was done."""
        first = [] if self.registered else [f"{Step.LOG_IN.value}, with a new account"]
        why = "the issuer before may have rolled back"
        return [
            *first,
            *(
                f"withdraw generation {number_text(number)}{self._of(lineage)}: {why}"
                for lineage, numbers in self.newer.items()
                for number in numbers
            ),
        ]

    def _of(self, lineage: str) -> str:
        return f" of {lineage}" if self.fleet.others else ""


def outlook(store: Store) -> Outlook:
    """Return what is to be done, without talking to the CA.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    from certsync.issuer.ca import issuance

    fleet = store.fleet()
    newer = {each.lineage: _newer(store, each.lineage) for each in fleet.lineages}
    kept = {lineage: numbers for lineage, numbers in newer.items() if numbers}
    return Outlook(fleet, issuance.is_registered(fleet, store), kept)


def _newer(store: Store, lineage: str) -> tuple[int, ...]:
    live, withdrawn = store.current(lineage) or 0, store.withdrawn(lineage)
    return tuple(n for n in store.numbers(lineage) if n > live and n not in withdrawn)


def register(store: Store, now: datetime, tell: Tell, done: list[str]) -> str:
    """Withdraw what the last issuer may have rolled back, and return our account's URL.

    What this host keeps above its live generation it got as a replica, and why that is not live it
    was never told. ``done`` gets what was changed, in words.

    Raises:
        CaError, CaBusyError, ClockError: from the CA.
        StoreError: this host is no issuer, or its store cannot be read.
    """
    from certsync.issuer.ca import issuance

    look = outlook(store)
    for lineage, numbers in look.newer.items():
        store.withdraw(lineage, {**dict.fromkeys(numbers, now), **store.withdrawn(lineage)})
        done.append(f"withdrew {', '.join(number_text(each) for each in numbers)}")
    account = issuance.register(look.fleet, store, tell)
    if not look.registered:
        done.append(f"registered account {account}")
    return account

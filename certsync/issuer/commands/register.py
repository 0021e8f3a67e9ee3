"""`certsync register`, on a new issuer: first of all, register an account of its own at the CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certsync.issuer.run import Session
from certsync.issuer.situation import Situation, look_at_all
from certsync.issuer.steps import Step
from certsync.issuer.store import Store
from certsync.model.generation import number_text


@dataclass(frozen=True)
class Outlook:
    """What to do before this host orders anything."""

    looks: Sequence[Situation]
    registered: bool
    """Whether it has an account."""

    def steps(self) -> list[str]:
        """Return what to do, in words; empty: nothing."""
        first = [] if self.registered else [f"{Step.LOG_IN.value}, with a new account"]
        several = len(self.looks) > 1
        return [
            *first,
            *(
                f"withdraw generation {number_text(number)}{f' of {one.name}' if several else ''}: "
                "the previous issuer may have rolled it back"
                for one in self.looks
                for number in newer(one)
            ),
        ]


def outlook(store: Store) -> Outlook:
    """Return what to do, without talking to the CA.

    Raises:
        StoreError: this host is not an issuer, or its store cannot be read.
    """
    from certsync.issuer.ca import issuance

    looks = look_at_all(store)
    return Outlook(looks, issuance.is_registered(looks[0].fleet, store))


def newer(seen: Situation) -> list[int]:
    """Return the generations above the live one that are not withdrawn yet."""
    live = seen.current or 0
    return [number for number in seen.numbers if number > live and number not in seen.withdrawn]


def register(session: Session) -> str:
    """Withdraw what the previous issuer may have rolled back, and return our account's URL.

    Generations above the live one were received while this host was a replica; why they are not
    live was not recorded here.

    Raises:
        CaError, CaBusyError, ClockError: from the CA.
        StoreError: this host is not an issuer, or its store cannot be read.
    """
    from certsync.issuer.ca import issuance

    look = outlook(session.store)
    for one in look.looks:
        if numbers := newer(one):
            withdrawn = {**dict.fromkeys(numbers, session.now), **one.withdrawn}
            session.store.withdraw(one.name, withdrawn)
            session.done.append(f"withdrew {', '.join(number_text(each) for each in numbers)}")
    account = issuance.register(look.looks[0], session.now, session.tell)
    if not look.registered:
        session.done.append(f"registered account {account}")
    return account

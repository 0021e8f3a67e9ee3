"""What the issuer's disk says of one lineage at one moment: read once, then passed on.

Values and what follows from them: nothing here changes anything. Who has changed the disk looks
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from certsync.issuer.ca import registration
from certsync.issuer.challenge import Challenge, Http01
from certsync.issuer.compromise import RETURNED, Marks
from certsync.issuer.store import Kept, Store
from certsync.model.fleet import SYSTEM_ROOTS, Fleet, Lineage, Machine
from certsync.model.generation import Manifest, target


@dataclass(frozen=True)
class Situation:
    """One lineage, as it was found."""

    store: Store
    fleet: Fleet
    lineage: Lineage
    numbers: Sequence[int]
    """All generations kept here, whole or not, but the placeholder; ascending."""

    kept: Mapping[int, Kept]
    """The whole ones, by number."""

    current: int | None
    """The number that the live link points to, 0 for the placeholder; None: there is no link."""

    withdrawn: Mapping[int, datetime]
    """The numbers that were rolled back and must not be activated again, and when."""

    refused: Mapping[int, str]
    """The numbers that this host's own receiver has refused for what they are, and why."""

    marks: Marks
    """Which generations' private keys are compromised, and what was done about it."""

    account: str = ""
    """Why this host has no account at the CA that could order; empty: it has one."""

    @property
    def name(self) -> str:
        """The lineage's name."""
        return self.lineage.name

    @property
    def holders(self) -> tuple[Machine, ...]:
        """The backends that have this lineage's certificate."""
        return self.fleet.holders(self.lineage)

    @property
    def manifests(self) -> dict[int, Manifest]:
        """The manifests of all whole generations, by number."""
        return {number: each.manifest for number, each in self.kept.items()}

    @property
    def damaged(self) -> list[int]:
        """The generations whose files are not what they should be."""
        return sorted(set(self.numbers) - set(self.kept))

    @property
    def barred(self) -> set[int]:
        """The numbers that are never activated.

        They were rolled back, have a compromised key, or are refused by this host's own receiver.
        """
        return {*self.withdrawn, *self.marks.numbers, *self.refused}

    @property
    def target(self) -> int | None:
        """The number that should be live everywhere; None: none that may be is there."""
        return target(self.manifests, self.barred)

    @property
    def newest(self) -> Manifest | None:
        """The generation that should be live everywhere; None: there is none that may be."""
        return self.kept[self.target].manifest if self.target else None

    @property
    def live(self) -> Manifest | None:
        """The live generation; None: there is none.

        Where the link is lost, or what it leads to is damaged, the newest whole one stands for it:
        it says when a certificate expires.
        """
        if self.current == 0 or not self.kept:
            return None
        return self.kept.get(self.current or 0, self.kept[max(self.kept)]).manifest

    @property
    def has_any(self) -> bool:
        """Whether something may go live, or is live that should no longer be."""
        return self.target is not None or bool(self.current)

    @property
    def challenge(self) -> Challenge:
        """How the CA is shown that the names are ours."""
        return Http01(self.fleet, self.name, self.store.webroot)

    @property
    def bundle(self) -> str:
        """The PEM file that verifies the CA's own HTTPS."""
        own = self.fleet.authority.directory_bundle
        return str(self.store.directory_bundle) if own else SYSTEM_ROOTS

    @property
    def roots(self) -> str:
        """The PEM file that verifies issued certificates."""
        return str(self.store.roots) if self.fleet.authority.roots else SYSTEM_ROOTS

    def again(self) -> Situation:
        """Return it as the disk says it now.

        Raises:
            StoreError: the store cannot be read.
        """
        return look(self.store, self.fleet, self.lineage)

    def without_returned(self) -> tuple[Situation, dict[str, str]]:
        """Return it without the backends that no key is to reach, and why not."""
        names = self.marks.returned(self.fleet)
        kept = tuple(each for each in self.fleet.backends if each.name not in names)
        fleet = replace(self.fleet, backends=kept)
        return replace(self, fleet=fleet), {name: RETURNED.format(name) for name in names}


def look(store: Store, fleet: Fleet, lineage: Lineage, account: str | None = None) -> Situation:
    """Return what the disk says of a lineage; ``account``, if it is known already, of the account.

    Raises:
        NewerSchemaError: a newer version has written some of it.
        BrokenStateError: what must not be forgotten cannot be read.
    """
    name = lineage.name
    return Situation(
        store,
        fleet,
        lineage,
        store.numbers(name),
        store.kept(name),
        store.current(name),
        store.withdrawn(name),
        store.refused(name),
        store.compromised(name),
        account_of(store, fleet) if account is None else account,
    )


def account_of(store: Store, fleet: Fleet) -> str:
    """Return why this host has no account at the fleet's CA that could order; empty: it has one."""
    return registration.finding(store.account(fleet.authority.directory))


def look_at_all(store: Store) -> list[Situation]:
    """Return what the disk says of each lineage.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    account = account_of(store, fleet)
    return [look(store, fleet, lineage, account) for lineage in fleet.lineages]


def named(looks: Sequence[Situation], lines: Callable[[Situation], Sequence[str]]) -> list[str]:
    """Return lines about each lineage, each with its name if there are several."""
    if len(looks) == 1:
        return list(lines(looks[0]))
    return [f"{one.name}: {line}" for one in looks for line in lines(one)]

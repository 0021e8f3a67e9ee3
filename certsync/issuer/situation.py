"""A snapshot of one lineage on the issuer's disk: read once, then passed on.

Values and what follows from them; nothing here changes anything. After a change, take a new one.
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
    """One lineage's snapshot."""

    store: Store
    fleet: Fleet
    lineage: Lineage
    numbers: Sequence[int]
    """All generations kept here, intact or not, without the placeholder; ascending."""

    kept: Mapping[int, Kept]
    """The intact ones, by number."""

    current: int | None
    """The number that the live link points to, 0 for the placeholder; None: no link."""

    withdrawn: Mapping[int, datetime]
    """The numbers that were withdrawn and must not be activated again, and when."""

    refused: Mapping[int, str]
    """The numbers that this host's own receiver refused because of their content, and why."""

    marks: Marks
    """Which private keys are compromised, and what was done about it."""

    account: str = ""
    """Why this host's CA account could not order; empty: it could."""

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
        """The manifests of all intact generations, by number."""
        return {number: each.manifest for number, each in self.kept.items()}

    @property
    def damaged(self) -> list[int]:
        """The generations whose files are missing or altered."""
        return sorted(set(self.numbers) - set(self.kept))

    @property
    def barred(self) -> set[int]:
        """The numbers that must never be activated.

        They were withdrawn, have a compromised key, or were refused by this host's own receiver.
        """
        return {*self.withdrawn, *self.marks.numbers, *self.refused}

    @property
    def target(self) -> int | None:
        """The number that should be live everywhere; None: no usable one exists."""
        return target(self.manifests, self.barred)

    @property
    def newest(self) -> Manifest | None:
        """The generation that should be live everywhere; None: no usable one exists."""
        return self.kept[self.target].manifest if self.target else None

    @property
    def live(self) -> Manifest | None:
        """The live generation; None: there is none.

        If the link is missing or its target damaged, the newest intact one stands in for it, to
        tell when a certificate expires.
        """
        if self.current == 0 or not self.kept:
            return None
        return self.kept.get(self.current or 0, self.kept[max(self.kept)]).manifest

    @property
    def has_any(self) -> bool:
        """Whether a generation may go live, or one is live that no longer should be."""
        return self.target is not None or bool(self.current)

    @property
    def challenge(self) -> Challenge:
        """How we prove control of the names to the CA."""
        return Http01(self.fleet, self.name, self.store.webroot)

    @property
    def bundle(self) -> str:
        """The PEM file to verify the CA's own HTTPS."""
        own = self.fleet.authority.directory_bundle
        return str(self.store.directory_bundle) if own else SYSTEM_ROOTS

    @property
    def roots(self) -> str:
        """The PEM file to verify issued certificates."""
        return str(self.store.roots) if self.fleet.authority.roots else SYSTEM_ROOTS

    def again(self) -> Situation:
        """Return a new snapshot.

        Raises:
            StoreError: the store cannot be read.
        """
        return look(self.store, self.fleet, self.lineage)

    def without_returned(self) -> tuple[Situation, dict[str, str]]:
        """Return it without the backends that must not get a key, and why for each."""
        names = self.marks.returned(self.fleet)
        kept = tuple(each for each in self.fleet.backends if each.name not in names)
        fleet = replace(self.fleet, backends=kept)
        return replace(self, fleet=fleet), {name: RETURNED.format(name) for name in names}


def look(
    store: Store, fleet: Fleet, lineage: Lineage, account: str | None = None, *,
    with_records: bool = True,
) -> Situation:  # fmt: skip
    """Read a lineage's snapshot; ``account`` is `account_of`, if known already.

    Not ``with_records``: as if nothing had been withdrawn or compromised.

    Raises:
        NewerSchemaError: a newer version wrote some of it.
        BrokenStateError: state that must not be lost cannot be read.
    """
    name = lineage.name
    return Situation(
        store,
        fleet,
        lineage,
        store.numbers(name),
        store.kept(name),
        store.current(name),
        store.withdrawn(name) if with_records else {},
        store.refused(name),
        store.compromised(name) if with_records else Marks(),
        account_of(store, fleet) if account is None else account,
    )


def account_of(store: Store, fleet: Fleet) -> str:
    """Return why this host's account at the fleet's CA could not order; empty: it could."""
    return registration.finding(store.account(fleet.authority.directory))


def look_at_all(store: Store) -> list[Situation]:
    """Read every lineage's snapshot.

    Raises:
        StoreError: this host is not an issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    account = account_of(store, fleet)
    return [look(store, fleet, lineage, account) for lineage in fleet.lineages]


def named(looks: Sequence[Situation], lines: Callable[[Situation], Sequence[str]]) -> list[str]:
    """Return lines about each lineage, prefixed with its name if there are several."""
    if len(looks) == 1:
        return list(lines(looks[0]))
    return [f"{one.name}: {line}" for one in looks for line in lines(one)]

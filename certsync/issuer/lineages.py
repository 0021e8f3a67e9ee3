"""A command's work for each of a fleet's lineages, where one's failure is no other's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError, LaterError, StoreError

Tell = Callable[[str], None]
Work = Callable[[Store, Tell, list[str]], None]


def each_lineage(store: Store, tell: Tell, done: list[str], work: Work) -> None:
    """Do the work with the store of each lineage; of more than one, all that is told is named.

    ``done`` gets what was changed, in words.

    Raises:
        CertsyncError: what it failed at; if at several, all of it in one message.
    """
    stores = store.lineages()
    if len(stores) == 1:
        work(stores[0], tell, done)
        return
    problems: list[CertsyncError] = []
    for one in stores:
        own: list[str] = []

        def say(text: str, name: str = one.lineage) -> None:
            tell(f"{name}: {text}")

        try:
            work(one, say, own)
        except CertsyncError as error:
            problems.append(type(error)(f"{one.lineage}: {error.message}", error.hint))
        done += [f"{one.lineage}: {text}" for text in own]
    if trouble := together(problems):
        raise trouble


def named(store: Store, lines: Callable[[Store], Sequence[str]]) -> list[str]:
    """Return lines about each lineage, each with its name if there are several."""
    stores = store.lineages()
    if len(stores) == 1:
        return list(lines(stores[0]))
    return [f"{one.lineage}: {line}" for one in stores for line in lines(one)]


def together(problems: Sequence[CertsyncError]) -> CertsyncError | None:
    """Return all problems as one error, the worst exit status first; None: all is well."""
    if len(problems) < 2:
        return problems[0] if problems else None
    worst = min(problems, key=lambda each: isinstance(each, LaterError))
    text = "; ".join(dict.fromkeys(each.message for each in problems))
    return type(worst)(text, worst.hint)


def chosen(store: Store, lineage: str) -> Store:
    """Return the store for the lineage that a person has named; the only one needs no name.

    Raises:
        StoreError: there is no such lineage, or there are several and none is named.
    """
    stores = {one.lineage: one for one in store.lineages()}
    if lineage in stores:
        return stores[lineage]
    known = ", ".join(stores)
    if lineage:
        raise StoreError(f"this fleet has no lineage {lineage}", f"name one of: {known}")
    if len(stores) > 1:
        raise StoreError(
            "this fleet has several lineages", f"say which: --lineage, one of: {known}"
        )
    return next(iter(stores.values()))

"""A fleet file's values, each checked separately, and the mistakes found in them.

A wrong value is left out and the rest is kept, so that one mistake never hides another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from certsync.model.errors import Mistake
from certsync.model.fleet import Fleet, Lineage, Machine
from certsync.operator.fleet_file import places
from certsync.operator.fleet_file.mistakes import dotted, from_pydantic, without
from certsync.operator.fleet_file.schema import MODEL


@dataclass(frozen=True)
class Draft:
    """A fleet, as far as its file is valid."""

    values: dict[str, Any]
    """The file's valid values, by their keys."""

    fleet: Fleet
    mistakes: list[Mistake]

    @property
    def lineages(self) -> Iterator[tuple[str, dict[str, Any], Lineage]]:
        """Each lineage, with the prefix of its keys' places and its own values in the file.

        The first lineage is at the top of the file, so its prefix is empty.
        """
        own = {
            f"{dotted('lineages', name)}.": values
            for name, values in self.values.get("lineages", {}).items()
        }
        tables = {"": self.values, **own}
        for (place, values), lineage in zip(tables.items(), self.fleet.lineages, strict=True):
            yield place, values, lineage

    @property
    def machines(self) -> Iterator[tuple[str, Machine]]:
        """Place and values of each machine, in the file's order, balancers first."""
        for group in ("balancers", "backends"):
            for machine in getattr(self.fleet, group):
                yield dotted(group, machine.name), machine

    @property
    def addresses(self) -> Iterator[tuple[str, str, str]]:
        """Yield each address of a machine, the machine's place, and the address's own."""
        for place, machine in self.machines:
            if machine.address:
                yield machine.address, place, f"{place}.address"
            if machine.private_address != machine.address:
                yield machine.private_address, place, f"{place}.private_address"

    def at_fault(self, place: str) -> bool:
        """Return whether a mistake was found at this key, or at the table that contains it."""
        return any(f"{place}.".startswith(f"{each.place}.") for each in self.mistakes)

    def at_fault_below(self, place: str) -> bool:
        """Return whether a mistake was found at this table, or anywhere in it."""
        return any(f"{each.place}.".startswith(f"{place}.") for each in self.mistakes)


def drafted(data: dict[str, Any], folder: Path) -> Draft:
    """Check each value of a fleet file separately.

    Args:
        data: the file's values; wrong ones are removed from it.
        folder: where relative paths in it start.
    """
    mistakes = []
    try:
        read = MODEL.model_validate(data, context=folder)
    except ValidationError as error:
        found = error.errors(include_url=False)
        mistakes = [from_pydantic(each) for each in found]
        read = MODEL.model_validate(without(data, [each["loc"] for each in found]), context=folder)
    values = read.model_dump(exclude_unset=True)
    return Draft(values, places.fleet_of(values, folder), mistakes)

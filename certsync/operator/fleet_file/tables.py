"""A fleet file's tables once read, each value by itself in order, and the mistakes seen on the way.

A value at fault is left out and the rest is kept, so that one mistake never hides another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from certsync.model.errors import Mistake
from certsync.operator.fleet_file import schema
from certsync.operator.fleet_file.mistakes import dotted, from_pydantic, without

AnyTable = TypeVar("AnyTable", bound=schema.Table)


@dataclass(frozen=True)
class LineageTables:
    """The tables of one lineage, with what the fleet's own say of each."""

    own: schema.Top | schema.LineageTable
    certificate: schema.CertificateTable
    site: schema.SiteTable


@dataclass
class Tables:
    """All tables of one fleet file."""

    folder: Path
    """Where relative paths in it start."""

    mistakes: list[Mistake] = field(default_factory=list)
    top: schema.Top = field(default_factory=schema.Top)
    ca: schema.CaTable = field(default_factory=schema.CaTable)
    ssh: schema.SshTable = field(default_factory=schema.SshTable)
    firewall: schema.FirewallTable = field(default_factory=schema.FirewallTable)
    balancing: schema.BalancingTable = field(default_factory=schema.BalancingTable)
    balancer: schema.BalancerTable = field(default_factory=schema.BalancerTable)
    sessions: schema.SessionsTable = field(default_factory=schema.SessionsTable)
    renewal: schema.RenewalTable = field(default_factory=schema.RenewalTable)
    notify: schema.NotifyTable = field(default_factory=schema.NotifyTable)
    metrics: schema.MetricsTable = field(default_factory=schema.MetricsTable)
    lineages: dict[str, LineageTables] = field(default_factory=dict)
    """By what stands before the places of a lineage's keys: nothing for the first, which is at the
    top of the file."""

    balancers: dict[str, schema.MachineTable] = field(default_factory=dict)
    backends: dict[str, schema.MachineTable] = field(default_factory=dict)

    def read(self, data: dict[str, Any]) -> None:
        """Take in what the file says, in the order in which messages tell of it."""
        self.top = top = self._table(schema.Top, "", data)
        self.ca = self._table(schema.CaTable, "ca", top.ca)
        certificate = self._table(schema.CertificateTable, "certificate", top.certificate)
        self.ssh = self._table(schema.SshTable, "ssh", top.ssh)
        site = self._table(schema.SiteTable, "site", top.site)
        self.firewall = self._table(schema.FirewallTable, "firewall", top.firewall)
        self.balancing = self._table(schema.BalancingTable, "balancing", top.balancing)
        self.balancer = self._table(schema.BalancerTable, "balancer", top.balancer)
        self.sessions = self._table(schema.SessionsTable, "sessions", top.sessions)
        self.renewal = self._table(schema.RenewalTable, "renewal", top.renewal)
        self.notify = self._table(schema.NotifyTable, "notify", top.notify)
        self.metrics = self._table(schema.MetricsTable, "metrics", top.metrics)
        first = LineageTables(top, certificate, site)
        self.lineages = {"": first}
        for name, table in top.lineages.items():
            place = dotted("lineages", name)
            self.lineages[f"{place}."] = self._lineage(place, table, first)
        self.balancers = self._machines("balancers", top.balancers)
        self.backends = self._machines("backends", top.backends)

    @property
    def machines(self) -> Iterator[tuple[str, str, schema.MachineTable]]:
        """Place, name and table of each machine, in the file's order, balancers first."""
        for group, machines in (("balancers", self.balancers), ("backends", self.backends)):
            for name, machine in machines.items():
                yield dotted(group, name), name, machine

    def at_fault(self, place: str) -> bool:
        """Return whether a mistake was seen at this key, or at the table that holds it."""
        return any(place == at or place.startswith(f"{at}.") for at in self._places())

    def at_fault_below(self, place: str) -> bool:
        """Return whether a mistake was seen at this table, or at anything in it."""
        return any(at == place or at.startswith(f"{place}.") for at in self._places())

    def _places(self) -> list[str]:
        return [mistake.place for mistake in self.mistakes]

    def _table(self, kind: type[AnyTable], place: str, data: dict[str, Any]) -> AnyTable:
        try:
            return kind.model_validate(data, context=self.folder)
        except ValidationError as error:
            found = error.errors(include_url=False)
        self.mistakes += [from_pydantic(each, place, kind) for each in found]
        sound = without(data, (each["loc"] for each in found))
        return kind.model_validate(sound, context=self.folder)

    def _lineage(self, place: str, data: dict[str, Any], first: LineageTables) -> LineageTables:
        own = self._table(schema.LineageTable, place, data)
        certificate = {**first.certificate.model_dump(exclude_unset=True), **own.certificate}
        kind = own.site.get("kind")
        # Another kind of site has other keys.
        like = first.site.model_dump(exclude_unset=True) if kind in (None, first.site.kind) else {}
        return LineageTables(
            own,
            self._table(schema.CertificateTable, f"{place}.certificate", certificate),
            self._table(schema.SiteTable, f"{place}.site", {**like, **own.site}),
        )

    def _machines(
        self, group: str, tables: dict[str, dict[str, Any]]
    ) -> dict[str, schema.MachineTable]:
        return {
            name: self._table(schema.MachineTable, dotted(group, name), table)
            for name, table in tables.items()
        }

"""Reads a fleet file: the whole of it is checked, and all of its mistakes are told at once.

`schema` says which keys there are; `rules`, `hosts` and `paths` what each
value may be; and `whole` what has to be there and fit together.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import KeyAlreadyPresent, TOMLKitError
from tomlkit.items import Table

from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import Authority, Fleet, Lineage, Machine
from certsync.model.options import (
    Balancer,
    Balancing,
    Event,
    Firewall,
    KeyType,
    Metrics,
    Notify,
    OnCertificateFailure,
    Provider,
    Renewal,
    Scheduler,
    Site,
    SiteKind,
    Stickiness,
    WebAccess,
)
from certsync.operator.change import NONE, Change
from certsync.operator.fleet_file import whole
from certsync.operator.fleet_file.editing import changed, write
from certsync.operator.fleet_file.mistakes import dotted, from_parser
from certsync.operator.fleet_file.paths import own_templates, reason
from certsync.operator.fleet_file.schema import MachineTable, SiteTable
from certsync.operator.fleet_file.tables import LineageTables, Tables


@dataclass(frozen=True)
class FleetFile:
    """A fleet file, read once a command, and what the command is about to make of it."""

    path: Path
    raw: bytes
    """What was read."""

    change: Change = NONE

    def __str__(self) -> str:
        """Return what messages call it."""
        return str(self.path)

    @property
    def before(self) -> FleetFile:
        """It without the change."""
        return replace(self, change=NONE)

    def changing(self, change: Change) -> FleetFile:
        """Return it with a change; the file stays as it is."""
        return replace(self, change=change)

    @cached_property
    def text(self) -> str:
        """What it says, with the change.

        Raises:
            FleetFileError: it is no TOML.
        """
        # Some editors put a byte order mark in front, which is no part of the text.
        text = self.raw.decode("utf-8-sig")
        if self.change == NONE:
            return text
        try:
            return changed(text, self.change)
        except TOMLKitError as error:
            raise FleetFileError(str(self.path), [from_parser(error, text)]) from None

    @cached_property
    def fleet(self) -> Fleet:
        """The fleet that it says, with the change.

        Raises:
            FleetFileError: it has mistakes.
        """
        return parse_fleet(self.text, str(self.path), self.path.parent)

    def save(self) -> None:
        """Make the change in the file as it is by now: it may have been edited meanwhile.

        Raises:
            FleetFileError: it cannot be read any more, or is no TOML.
        """
        write(self.path, opened(self.path).changing(self.change).text)

    @property
    def sha256(self) -> str:
        """SHA-256 in hex, with the change."""
        content = self.raw if self.change == NONE else self.text.encode()
        return hashlib.sha256(content).hexdigest()


def opened(path: Path) -> FleetFile:
    """Return a fleet file, read.

    Raises:
        FleetFileError: it cannot be read, or is no text.
    """
    return FleetFile(path, _raw(path))


def read_fleet(path: Path, change: Change = NONE) -> Fleet:
    """Return the fleet that this file says, with a change made to it.

    Raises:
        FleetFileError: it cannot be read, or has mistakes.
    """
    return opened(path).changing(change).fleet


def parse_fleet(text: str, path: str, folder: Path) -> Fleet:
    """Return the fleet that the text of a fleet file says.

    Args:
        text: what the file says.
        path: what messages call the file.
        folder: where relative paths in it start.

    Raises:
        FleetFileError: it has mistakes.
    """
    try:
        data = _data(text)
    except TOMLKitError as error:
        raise FleetFileError(path, [from_parser(error, text)]) from None
    tables = Tables(folder)
    tables.read(data)
    mistakes = [*tables.mistakes, *whole.check(tables)]
    if mistakes:
        raise FleetFileError(path, mistakes)
    return _fleet(tables)


def describe(error: FleetFileError) -> str:
    """Return what a person reads about a fleet file's mistakes, each with its hint below."""
    lines = [f"error: {error.message}"]
    for mistake in error.mistakes:
        lines.append(f"  {mistake.place}: {mistake.message}")
        if mistake.hint:
            lines.append(f"    hint: {mistake.hint}")
    return "\n".join(lines)


def _raw(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        raw.decode("utf-8-sig")
        return raw
    except FileNotFoundError:
        found = Mistake("file", "is not there", f"`certsync init {shlex.quote(str(path))}`")
    except IsADirectoryError:
        inside = shlex.quote(str(path / "fleet.toml"))
        found = Mistake("file", "is a folder", f"name a file in it, or `certsync init {inside}`")
    except OSError as error:
        hint = "name a file that you can read, or write one with `certsync init`"
        found = Mistake("file", f"cannot be read: {reason(error)}", hint)
    except UnicodeDecodeError as error:
        hint = "save it as UTF-8, or write a new one with `certsync init`"
        found = Mistake("file", f"is not UTF-8 text, see byte {error.start + 1}", hint)
    raise FleetFileError(str(path), [found])


def _data(text: str) -> dict[str, Any]:
    document = tomlkit.parse(text)
    # TOML forbids a table twice, but tomlkit joins the two when other tables lie between them:
    # one machine would vanish without a word.
    for header, times in Counter(_headers(document)).items():
        if times > 1:
            raise KeyAlreadyPresent(header)
    return document.unwrap()


def _headers(container: Container, above: str = "") -> Iterator[str]:
    for key, item in container.body:
        if key and isinstance(item, Table):
            place = f"{above}.{dotted(key.key)}" if above else dotted(key.key)
            if not item.is_super_table():
                yield place
            yield from _headers(item.value, place)


def _fleet(tables: Tables) -> Fleet:
    top, ca, notify = tables.top, tables.ca, tables.notify
    return Fleet(
        lineages=tuple(_lineage(each) for each in tables.lineages.values()),
        public_addresses=tuple(top.public_addresses),
        authority=Authority(ca.directory, ca.contact, ca.directory_bundle, ca.roots, ca.eab_key_id),
        backends=_machines(tables.backends, tables),
        balancers=_machines(tables.balancers, tables),
        issuer_name=top.issuer or next(iter(tables.backends)),
        passthrough=top.passthrough,
        firewall=Firewall(tables.firewall.enable, WebAccess(tables.firewall.web_access)),
        balancing=_balancing(tables),
        balancer=Balancer(
            Provider(tables.balancer.provider),
            tuple(tables.balancer.virtual_addresses),
            tuple(tables.balancer.networks),
        ),
        share_tickets=tables.sessions.share_tickets,
        renewal=Renewal(tables.renewal.every_hours, Scheduler(tables.renewal.scheduler)),
        notify=Notify(tuple(Event(each) for each in notify.events), notify.heartbeat_url),
        metrics=Metrics(tables.metrics.folder),
        known_hosts=tables.ssh.known_hosts,
        templates=own_templates(tables.folder),
    )


def _site(site: SiteTable) -> Site:
    return Site(**{**site.model_dump(), "kind": SiteKind(site.kind)})


def _balancing(tables: Tables) -> Balancing:
    table = tables.balancing
    return Balancing(
        **{
            **table.model_dump(),
            "on_certificate_failure": OnCertificateFailure(table.on_certificate_failure),
            "stickiness": Stickiness(tables.sessions.stickiness),
        }
    )


def _lineage(tables: LineageTables) -> Lineage:
    own, certificate = tables.own, tables.certificate
    return Lineage(
        tuple(own.names),
        tuple(own.served_by),
        KeyType(certificate.key_type),
        certificate.profile,
        certificate.reuse_key,
        _site(tables.site),
    )


def _machines(machines: dict[str, MachineTable], tables: Tables) -> tuple[Machine, ...]:
    ssh = tables.ssh
    return tuple(
        Machine(
            name,
            machine.address,
            machine.private_address or machine.address,
            machine.ssh_user or ssh.user,
            machine.ssh_port or ssh.port,
            machine.ssh_key or ssh.key,
        )
        for name, machine in machines.items()
    )

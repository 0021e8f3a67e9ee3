"""The issuer's disk: the only reading and writing of generations and state.

A generation is written whole into `staging` and renamed into the archive; what is made live goes
through the receiver, the same program as on every other backend.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certsync.issuer.compromise import Marks
from certsync.issuer.replicas.fence import Fence
from certsync.model import codec
from certsync.model.errors import BrokenStateError, NewerSchemaError, StoreError
from certsync.model.fleet import Fleet
from certsync.model.generation import Manifest, number_text
from certsync.model.moment import moment
from certsync.model.paths import IssuerPaths
from certsync.programs import receiver
from certsync.system.files import write_whole

if TYPE_CHECKING:
    # It loads cryptography, which an hourly run has no need of.
    from certsync.model.certificate import Certificate

STATE_SCHEMA = 2
"""Of all state files. An older one is read, a newer one is refused."""


@dataclass(frozen=True)
class Kept:
    """A whole generation, without its private key."""

    manifest: Manifest
    manifest_sum: str
    """SHA-256 of the manifest's file, in hex."""

    fullchain: bytes
    """PEM, leaf first."""


@dataclass(frozen=True)
class Store(IssuerPaths):
    """What is on the issuer's disk."""

    # Reading

    def fleet(self) -> Fleet:
        """Return the rendered fleet.

        Raises:
            StoreError: this host is not an issuer, or the file cannot be read.
        """
        try:
            return Fleet.from_json(self.fleet_file.read_bytes())
        except FileNotFoundError:
            raise StoreError(
                f"{self.fleet_file} is not there: this host is no issuer",
                "run this on the fleet's issuer, or `certsync deploy FLEET` from your machine",
            ) from None
        except PermissionError:
            raise StoreError(f"{self.fleet_file} is root's", "run it with sudo") from None

    def current(self, lineage: str) -> int | None:
        """Return the number that the live link points to; None: there is no link."""
        try:
            return int(self.live(lineage).readlink().name)
        except (FileNotFoundError, ValueError):
            return None

    def numbers(self, lineage: str) -> list[int]:
        """Return the numbers of all generations kept here, whole or not, but the placeholder's."""
        folders = self.archive(lineage).glob("[0-9]" * 4)
        return sorted(int(each.name) for each in folders if each.name != receiver.PLACEHOLDER)

    def kept(self, lineage: str) -> dict[int, Kept]:
        """Return, by number, all generations whose files are what their manifest says.

        A damaged one is left out: something older is served, and something newer ordered in time.

        Raises:
            NewerSchemaError: one is of a newer schema.
        """
        found = {}
        for number in self.numbers(lineage):
            place = str(self.archive(lineage) / number_text(number) / receiver.MANIFEST)
            try:
                files = self.files(lineage, number)
                manifest = Manifest.from_json(files[receiver.MANIFEST], place)
            except NewerSchemaError:
                raise
            except StoreError:
                continue
            found_sums = sums(files)
            manifest_sum = found_sums.pop(receiver.MANIFEST)
            if found_sums.items() <= manifest.files.items():
                found[number] = Kept(manifest, manifest_sum, files["fullchain.pem"])
        return found

    def files(self, lineage: str, number: int) -> dict[str, bytes]:
        """Return the five files of a generation."""
        folder = self.archive(lineage) / number_text(number)
        return {name: self._read(folder / name) for name in receiver.FILES}

    def withdrawn(self, lineage: str) -> dict[int, datetime]:
        """Return the numbers that were rolled back and must not be activated again, and when."""
        path = self._withdrawn_file(lineage)
        try:
            at = dict(self.read_state(path).get("at", {}))
            return {int(number): moment(at[number]) for number in at}
        except (ValueError, TypeError):
            # Not forgotten: what was withdrawn would be activated again.
            raise BrokenStateError(f"{path} is broken", f"look at it, then remove {path}") from None

    def withdraw(self, lineage: str, numbers: Mapping[int, datetime]) -> None:
        """Write down which numbers were rolled back, and when; all others are forgotten."""
        at = {number_text(number): moment.isoformat() for number, moment in numbers.items()}
        self.write_state(self._withdrawn_file(lineage), {"at": at})

    def refused(self, lineage: str) -> dict[int, str]:
        """Return the numbers that this host's own receiver has refused for what they are, and why.

        A broken note is forgotten: what was refused will be refused again.
        """
        try:
            why = dict(self.read_state(self._refused_file(lineage)).get("why", {}))
            return {int(number): str(why[number]) for number in why}
        except (BrokenStateError, ValueError, TypeError):
            return {}

    def refuse(self, lineage: str, number: int, why: str) -> None:
        """Write down that a generation is refused here; of those that are gone nothing is kept."""
        there = {*self.numbers(lineage), number}
        noted = {**self.refused(lineage), number: why}
        texts = {number_text(each): text for each, text in noted.items() if each in there}
        self.write_state(self._refused_file(lineage), {"why": texts})

    def _refused_file(self, lineage: str) -> Path:
        return self.state / f"refused-{lineage}.json"

    def _withdrawn_file(self, lineage: str) -> Path:
        return self.state / f"withdrawn-{lineage}.json"

    def compromised(self, lineage: str) -> Marks:
        """Return which generations' private keys are compromised, and what was done about it."""
        path = self._compromised_file(lineage)
        try:
            return Marks.from_json(self.read_state(path))
        except codec.NOT_THESE:
            # Not forgotten: a key that others hold would be served again.
            raise BrokenStateError(f"{path} is broken", f"look at it, then remove {path}") from None

    def mark_compromised(self, lineage: str, marks: Marks) -> None:
        """Write down whose keys are compromised; what was written before is forgotten."""
        self.write_state(self._compromised_file(lineage), marks.to_json())

    def _compromised_file(self, lineage: str) -> Path:
        return self.state / f"compromised-{lineage}.json"

    def fence(self, lineage: str) -> Fence:
        """Return what is remembered of how the replicas took the push key.

        Raises:
            BrokenStateError: it cannot be read. Forgotten, an issuer that was replaced would act.
        """
        path = self._fence_file(lineage)
        try:
            return codec.typed(self.read_state(path), Fence)
        except codec.NOT_THESE:
            raise BrokenStateError(f"{path} is broken", f"look at it, then remove {path}") from None

    def keep_fence(self, lineage: str, fence: Fence) -> None:
        """Write down how the replicas took the push key."""
        self.write_state(self._fence_file(lineage), codec.plain(fence))

    def _fence_file(self, lineage: str) -> Path:
        return self.state / f"fence-{lineage}.json"

    def read_state(self, path: Path) -> dict[str, Any]:
        """Return a state file's content; empty if it is not there.

        Raises:
            NewerSchemaError: it is of a newer schema.
            BrokenStateError: it is something else.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            schema = data["schema"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BrokenStateError(f"{path} is broken", f"look at it, then remove {path}") from None
        if schema > STATE_SCHEMA:
            raise NewerSchemaError(
                f"{path} has schema {schema}, and this certsync reads {STATE_SCHEMA}",
                "a newer certsync has been here: deploy that one again",
            )
        return data

    # Writing

    def write_state(self, path: Path, data: dict[str, Any]) -> None:
        """Write a state file whole."""
        text = json.dumps({"schema": STATE_SCHEMA, **data}, indent=1)
        write_whole(path, text.encode(), mode=0o600)

    def keep(self, manifest: Manifest, key: bytes, certificate: Certificate) -> None:
        """Write a new generation into the archive, whole and on disk. It is not live yet.

        Raises:
            StoreError: the disk refuses, or the number is taken.
        """
        files = generation_files(key, certificate)
        files[receiver.MANIFEST] = manifest.to_json()
        folder = self.archive(manifest.lineage) / number_text(manifest.number)
        if folder.exists():
            raise StoreError(f"{folder} is there already")
        try:
            receiver.keep(
                receiver.write_generation(files, manifest.lineage, folder.name),
                manifest.lineage,
                folder.name,
            )
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from None

    def prove_writable(self) -> None:
        """Write, read back and remove a file, before an order is spent on a full disk.

        Raises:
            StoreError: that did not work.
        """
        noise = os.urandom(64 * 1024)
        for folder in (self.root, self.state):
            probe = folder / ".writable"
            try:
                write_whole(probe, noise, mode=0o600)
                same = probe.read_bytes() == noise
                probe.unlink()
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot be written: {error.strerror}",
                    "is the disk full, or mounted read-only? df -h shows it",
                ) from None
            if not same:
                raise StoreError(f"{folder} does not give back what was written to it")

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from None


def generation_files(key: bytes, certificate: Certificate) -> dict[str, bytes]:
    """Return the four PEM files of a generation by name."""
    leaf, chain = certificate.leaf_pem.encode(), certificate.chain_pem.encode()
    return {"privkey.pem": key, "cert.pem": leaf, "chain.pem": chain, "fullchain.pem": leaf + chain}


def sums(files: dict[str, bytes]) -> dict[str, str]:
    """Return the SHA-256, in hex, of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

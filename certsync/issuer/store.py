"""The issuer's disk: the only place that reads and writes generations and state.

A generation is written completely into `staging`, then renamed into the archive. Activation goes
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

import msgspec

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
    # It loads cryptography, which the hourly run does not need.
    from certsync.model.certificate import Certificate

STATE_SCHEMA = 2
"""The schema of all state files. Older ones are read, newer ones refused."""


@dataclass(frozen=True)
class Kept:
    """An intact generation, without its private key."""

    manifest: Manifest
    manifest_sum: str
    """SHA-256 of the manifest's file, in hex."""

    fullchain: bytes
    """PEM, leaf first."""


@dataclass(frozen=True)
class Store(IssuerPaths):
    """The issuer's files."""

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
                f"{self.fleet_file} does not exist: this host is not an issuer",
                "run this on the fleet's issuer, or `certsync deploy FLEET` from your machine",
            ) from None
        except PermissionError:
            why = f"only root can read {self.fleet_file}"
            raise StoreError(why, "run this with sudo") from None

    def current(self, lineage: str) -> int | None:
        """Return the number that the live link points to; None: no link."""
        try:
            return int(self.live(lineage).readlink().name)
        except (FileNotFoundError, ValueError):
            return None

    def numbers(self, lineage: str) -> list[int]:
        """Return the numbers of all generations kept here, intact or not, but the placeholder."""
        folders = self.archive(lineage).glob("[0-9]" * 4)
        return sorted(int(each.name) for each in folders if each.name != receiver.PLACEHOLDER)

    def kept(self, lineage: str) -> dict[int, Kept]:
        """Return, by number, all generations whose files match their manifests.

        A damaged one is left out: an older one is served, and a newer one ordered in time. So is
        one that a newer version has written. Their numbers are not used again.
        """
        found = {}
        for number in self.numbers(lineage):
            place = str(self.archive(lineage) / number_text(number) / receiver.MANIFEST)
            try:
                files = self.files(lineage, number)
                manifest = Manifest.from_json(files[receiver.MANIFEST], place)
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
        """Return the numbers that were withdrawn and must not be activated again, and when."""
        path = self.withdrawn_file(lineage)
        try:
            at = dict(self.read_state(path).get("at", {}))
            return {int(number): moment(at[number]) for number in at}
        except (ValueError, TypeError):
            # Not ignored: what was withdrawn would be activated again.
            raise _broken(path) from None

    def withdraw(self, lineage: str, numbers: Mapping[int, datetime]) -> None:
        """Record which numbers were withdrawn, and when; this replaces the previous record."""
        at = {number_text(number): moment.isoformat() for number, moment in numbers.items()}
        self.write_state(self.withdrawn_file(lineage), {"at": at})

    def refused(self, lineage: str) -> dict[int, str]:
        """Return the numbers that this host's own receiver refused for their content, and why.

        A corrupt record is ignored: what was refused will be refused again.
        """
        try:
            why = dict(self.read_state(self.refused_file(lineage)).get("why", {}))
            return {int(number): str(why[number]) for number in why}
        except (BrokenStateError, ValueError, TypeError):
            return {}

    def refuse(self, lineage: str, number: int, why: str) -> None:
        """Record that a generation is refused here; entries of removed ones are dropped."""
        existing = {*self.numbers(lineage), number}
        noted = {**self.refused(lineage), number: why}
        texts = {number_text(each): text for each, text in noted.items() if each in existing}
        self.write_state(self.refused_file(lineage), {"why": texts})

    def compromised(self, lineage: str) -> Marks:
        """Return which private keys are compromised, and what was done about it."""
        path = self.compromised_file(lineage)
        try:
            return Marks.from_json(self.read_state(path))
        except codec.NOT_THESE:
            # Not ignored: a compromised key would be served again.
            raise _broken(path) from None

    def mark_compromised(self, lineage: str, marks: Marks) -> None:
        """Record which keys are compromised; this replaces the previous record."""
        self.write_state(self.compromised_file(lineage), marks.to_json())

    def fence(self, lineage: str) -> Fence:
        """Return what is remembered about replicas accepting or refusing the push key.

        Raises:
            BrokenStateError: it is corrupt. If ignored, a demoted issuer would keep acting.
        """
        path = self.fence_file(lineage)
        try:
            return codec.typed(self.read_state(path), Fence)
        except codec.NOT_THESE:
            raise _broken(path) from None

    def keep_fence(self, lineage: str, fence: Fence) -> None:
        """Record which replicas accepted or refused the push key."""
        self.write_state(self.fence_file(lineage), codec.plain(fence))

    def read_state(self, path: Path) -> dict[str, Any]:
        """Return a state file's content; empty if it does not exist.

        Raises:
            NewerSchemaError: its schema is newer.
            BrokenStateError: it is corrupt.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_bytes())
            schema = data["schema"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _broken(path) from None
        if schema > STATE_SCHEMA:
            raise NewerSchemaError(
                f"{path} has schema {schema}, but this certsync reads up to {STATE_SCHEMA}",
                "a newer certsync wrote it: deploy again with that version",
            )
        return data

    # Writing

    def write_state(self, path: Path, data: dict[str, Any]) -> None:
        """Write a state file completely or not at all."""
        text = msgspec.json.encode({"schema": STATE_SCHEMA, **data})
        write_whole(path, msgspec.json.format(text, indent=1), mode=0o600)

    def keep(self, manifest: Manifest, key: bytes, certificate: Certificate) -> None:
        """Write a new generation into the archive, synced to disk. It is not live yet.

        Raises:
            StoreError: the disk cannot be written, or the number is taken.
        """
        files = generation_files(key, certificate)
        self.keep_files(manifest, {**files, receiver.MANIFEST: manifest.to_json()})

    def keep_files(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Write the five files of a generation into the archive; see `keep`.

        Raises:
            StoreError: the disk cannot be written, or the number is taken.
        """
        folder = self.archive(manifest.lineage) / number_text(manifest.number)
        if folder.exists():
            raise StoreError(f"{folder} already exists")
        try:
            receiver.keep(
                receiver.write_generation(dict(files), manifest.lineage, folder.name),
                manifest.lineage,
                folder.name,
            )
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from None

    def prove_writable(self) -> None:
        """Write, read back and remove a file, so that no order is wasted on a full disk.

        Raises:
            StoreError: that failed.
        """
        noise = os.urandom(64 * 1024)
        for folder in (self.root, self.state):
            # Of this process alone: `prove` does not wait for the lock.
            probe = folder / f".writable-{os.getpid()}"
            try:
                write_whole(probe, noise, mode=0o600)
                same = probe.read_bytes() == noise
                probe.unlink()
            except OSError as error:
                raise StoreError(
                    f"{folder} cannot be written: {error.strerror}",
                    "is the disk full, or mounted read-only? check `df -h`",
                ) from None
            if not same:
                raise StoreError(f"{folder} returned other data than was written to it")

    def unwritable(self) -> str:
        """Return why the disk cannot be written; empty: it can."""
        try:
            self.prove_writable()
        except StoreError as error:
            return error.message
        return ""

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from None


def _broken(path: Path) -> BrokenStateError:
    return BrokenStateError(f"{path} is broken", f"look at it, then remove {path}")


def generation_files(key: bytes, certificate: Certificate) -> dict[str, bytes]:
    """Return the four PEM files of a generation by name."""
    leaf, chain = certificate.leaf_pem.encode(), certificate.chain_pem.encode()
    return {"privkey.pem": key, "cert.pem": leaf, "chain.pem": chain, "fullchain.pem": leaf + chain}


def sums(files: dict[str, bytes]) -> dict[str, str]:
    """Return the SHA-256, in hex, of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

"""A simulated backend: a folder in memory, the real receiver's functions on it, and its faults."""

from __future__ import annotations

import contextlib
import re
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from certsync.issuer.store import Store
from certsync.programs import receiver

PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
NOBODYS = (b"a placeholder",)
WRITTEN = receiver.write_generation


@dataclass
class Host:
    """One backend."""

    name: str
    folder: Path
    up: bool = True
    reachable: bool = True
    """Whether the issuer reaches it over SSH and TLS."""

    accepts_key: bool = True
    full: bool = False
    refuses_all: bool = False
    """Whether its server refuses every generation, whatever it is."""

    skew: timedelta = timedelta(0)
    accepts_from: str = ""
    """The machine whose push key it accepts."""

    claims: dict[str, Any] | None = None
    """What it says of itself instead of the truth."""

    served: tuple[bytes, ...] = NOBODYS
    """The chain that its server shows, DER."""

    served_number: int = 0
    verified: dict[str, Any] = field(default_factory=dict)
    tested: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for each in ("etc", "inbox", "state"):
            (self.folder / each).mkdir(parents=True)

    @property
    def store(self) -> Store:
        """What an issuer has on its disk."""
        return Store(self.folder / "etc", self.folder / "state")

    @property
    def accepted_key(self) -> Path:
        """Its authorized_keys; of the key itself, only ``accepts_from`` is simulated."""
        return self.folder / "authorized_keys"

    @property
    def is_healthy(self) -> bool:
        """Whether nothing of its own keeps it from a certificate."""
        return (
            self.up and self.reachable and self.accepts_key and not self.full
            and not self.refuses_all and not self.skew and self.claims is None
        )  # fmt: skip

    def test(self, _folder: Path, _live: Path) -> None:
        """Test the server with a generation, as `model.server` says."""
        if self.refuses_all:
            raise receiver.Unfit("nginx: [emerg] it does not like this one")

    def reload(self) -> None:
        """Show what the live link points to."""
        links = [path for path in (self.folder / "etc/live").iterdir() if path.name[0] != "."]
        live = next(iter(links), None)
        if live is None or not live.is_dir():
            # nginx does not start to read what is not there, and serves what it had.
            return
        blocks = PEM.findall((live / "fullchain.pem").read_text())
        self.served = tuple(ssl.PEM_cert_to_DER_cert(each) for each in blocks) or NOBODYS
        self.served_number = int(live.readlink().name)

    def answer(self, line: str, now: datetime, *, local: bool) -> dict[str, Any]:
        """Return what its receiver answers to a line."""
        if self.claims is not None and line.startswith("current "):
            return self.claims
        with self.at_work(now, local=local):
            return receiver.run_verb(receiver.answer, line)

    def receive(self, outbox: Path) -> None:
        """Have a push in the inbox."""
        shutil.copytree(outbox, self.folder / "inbox", dirs_exist_ok=True)

    @contextlib.contextmanager
    def at_work(self, now: datetime, *, local: bool) -> Iterator[None]:
        """Have the receiver's functions work here."""
        clock = SimpleNamespace(time=(now + self.skew).timestamp)
        inbox = self.folder / ("no inbox" if local else "inbox")

        def write(files: dict[str, bytes], name: str, number: str) -> Path:
            if self.full:
                raise OSError(28, "No space left on device", str(self.folder))
            return WRITTEN(files, name, number)

        with patch.multiple(
            receiver, HOME=self.folder / "etc", INBOX=inbox, SERVER=self, time=clock,
            ACCEPTED_KEY=self.accepted_key,
            VERIFIED=self.verified, TESTED=self.tested, write_generation=write,
        ):  # fmt: skip
            yield

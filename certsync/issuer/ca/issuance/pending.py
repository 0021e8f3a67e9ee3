"""An unfinished order on the issuer's disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from certsync.model import certificate
from certsync.model.certificate import PrivateKey
from certsync.model.fleet import Lineage
from certsync.model.generation import Manifest
from certsync.system.files import remove_folder, write_whole


@dataclass(frozen=True)
class Pending:
    """The files of an open order."""

    folder: Path

    @property
    def key(self) -> Path:
        """The new certificate's private key."""
        return self.folder / "privkey.pem"

    @property
    def csr(self) -> Path:
        """The signing request."""
        return self.folder / "csr.pem"

    @property
    def order(self) -> Path:
        """The order's URL, and what it was for."""
        return self.folder / "order.json"

    def prepare(self, directory: str, lineage: Lineage, kept_key: bytes = b"") -> None:
        """Ensure a key and a signing request that match the fleet file.

        ``kept_key`` is the PEM of a key to reuse; empty: make a new one.
        """
        wanted = {
            "directory": directory,
            "names": list(lineage.names),
            "key_type": lineage.key_type.value,
            "profile": lineage.profile,
            "key": hashlib.sha256(kept_key).hexdigest() if kept_key else "new",
        }
        if self._facts("wanted.json") == wanted and self.key.exists() and self.csr.exists():
            return
        remove_folder(self.folder)
        make = certificate.make_key
        key = certificate.load_key(kept_key) if kept_key else make(lineage.key_type)
        write_whole(self.key, certificate.key_pem(key), mode=0o600)
        write_whole(self.csr, certificate.make_csr(key, lineage.names), mode=0o600)
        write_whole(self.folder / "wanted.json", json.dumps(wanted).encode(), mode=0o600)

    def is_of(self, manifests: Iterable[Manifest]) -> bool:
        """Return whether this order has become a generation already.

        The order's URL tells; if the run was interrupted before it was placed, the key does.
        """
        if not self.key.exists():
            return False
        url = self.url()
        reused = self._facts("wanted.json").get("key", "new") != "new"
        key_sum = self.key_sum()
        return any(
            (url and each.order == url) or (not reused and each.files["privkey.pem"] == key_sum)
            for each in manifests
        )

    def key_sum(self) -> str:
        """Return the SHA-256 of the key's file, in hex, or nothing."""
        return hashlib.sha256(self.key.read_bytes()).hexdigest() if self.key.exists() else ""

    def url(self) -> str:
        """Return the open order's URL, or nothing."""
        return str(self._facts("order.json").get("url", ""))

    def remember(self, url: str) -> None:
        """Save the URL of the order just placed."""
        write_whole(self.order, json.dumps({"url": url}).encode(), mode=0o600)

    def forget_order(self) -> None:
        """Forget a failed order; its key and request can be reused."""
        self.order.unlink(missing_ok=True)

    def private_key(self) -> PrivateKey:
        """Return the key."""
        return certificate.load_key(self.key.read_bytes())

    def _facts(self, name: str) -> dict[str, object]:
        try:
            data = json.loads((self.folder / name).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

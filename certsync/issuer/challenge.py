"""How we prove control of the names: an interface, with one kind of challenge behind it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certsync.issuer import canary, webroot
from certsync.issuer.canary import Judgement
from certsync.model.fleet import Fleet


class Challenge(Protocol):
    """One kind of challenge (RFC 8555 section 8) for the names of a lineage."""

    @property
    def kind(self) -> str:
        """The CA's name for it."""
        ...

    def look(self) -> Judgement:
        """Return what would make a validation fail, before an order is placed.

        Raises:
            StoreError: answers cannot be put where the CA would look.
        """
        ...

    def present(self, answers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Publish answers, token to content, inside the block.

        Raises:
            StoreError: they cannot be published.
        """
        ...

    def clear(self) -> None:
        """Remove what a killed run left behind."""
        ...


@dataclass(frozen=True)
class Http01:
    """http-01, from a folder that nginx serves (RFC 8555 section 8.3)."""

    fleet: Fleet
    name: str
    webroot: Path
    kind: str = "http-01"

    def look(self) -> Judgement:
        """Return where a challenge file would not be found."""
        return canary.judge(self.fleet, canary.look(self.fleet, self.name, self.webroot))

    def present(self, answers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Serve challenge files inside the block."""
        return webroot.present(self.webroot, answers)

    def clear(self) -> None:
        """Remove every challenge file."""
        webroot.clear(self.webroot)

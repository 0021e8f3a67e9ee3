"""How to order a certificate, given what is live and what has failed before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from certsync.model.generation import Manifest


@dataclass(frozen=True)
class Request:
    """How to order."""

    before: Manifest | None = None
    """The generation that the new one succeeds."""

    replacing: bool = True
    """Whether the order names the certificate that it replaces."""

    new_key: bool = False
    """Whether the key of ``before`` must not be reused, whatever the fleet file says."""

    anew: bool = False
    """Whether to abandon an earlier run's open order, because it has failed often."""

    roots: str = ""
    """The PEM file with the roots that the chain must lead to; empty: any root."""

    end: datetime | None = None
    """After it, time is running out: a chain that does not lead there is accepted, and a wrong
    clock stops nothing; None: nothing that is served would expire."""

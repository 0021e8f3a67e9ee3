"""What the issuer's commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certsync.system import console

if TYPE_CHECKING:
    from certsync.issuer.store import Store


def the_store() -> Store:
    """Return the store on this host's disk."""
    from certsync.issuer.store import Store as Found

    return Found()


def tell_outlook(steps: list[str], as_json: bool, before: str) -> None:
    """Print what would be done, as text or JSON."""
    if as_json:
        console.result_json({"steps": steps})
    else:
        console.result("\n".join(f"{before}{step}" for step in steps) or "nothing to do")

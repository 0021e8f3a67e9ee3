"""What a rehearsal has found, host by host, and at which CA it may be held. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from certsync.model.errors import CertsyncError, RolloutError
from certsync.model.fleet import DIRECTORIES, LETSENCRYPT, LETSENCRYPT_STAGING

NUMBER = 9999
"""The number on what is pushed and thrown away: the last there is, so it is nobody's."""


@dataclass(frozen=True)
class Finding:
    """One thing that was tried on one host."""

    host: str
    """A machine's name, or a public address."""

    what: str
    why: str = ""
    """Why it failed; empty: it went well."""

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """Return what `to_json` wrote."""
        return cls(str(data["host"]), str(data["what"]), str(data["why"]))


def directory(of_fleet: str, asked: str) -> str:
    """Return the directory of the CA to rehearse at; ``asked`` is a name, a URL or nothing.

    Raises:
        CertsyncError: it would be one whose orders count.
    """
    chosen = DIRECTORIES.get(asked, asked)
    if not chosen and of_fleet in (LETSENCRYPT, LETSENCRYPT_STAGING):
        return LETSENCRYPT_STAGING
    if not chosen:
        raise CertsyncError(
            f"the fleet's certificate is from {of_fleet}: an order for trying there may count "
            "against its limits",
            "name the CA's directory for tries with --directory URL",
        )
    if chosen == LETSENCRYPT:
        raise CertsyncError(
            "an order for trying at Let's Encrypt itself counts against its limits",
            "leave --directory out, and its staging CA is asked",
        )
    if not chosen.startswith("https://"):
        raise CertsyncError(f"{asked!r} is no directory of a CA", "write the URL, https:// and all")
    return chosen


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as people read them, one a line."""
    width = max((len(each.host) for each in findings), default=0)
    return "\n".join(f"{each.host:{width}}  {each.what}: {each.why or 'ok'}" for each in findings)


def error(findings: Sequence[Finding]) -> RolloutError | None:
    """Return the error that names every host where something failed, or None."""
    failed = [f"{each.host}: {each.what}: {each.why}" for each in findings if each.why]
    if not failed:
        return None
    return RolloutError(
        f"the rehearsal failed: {'; '.join(failed)}",
        "nothing that is live was touched; fix it and rehearse again",
    )

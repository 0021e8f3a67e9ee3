"""What a rehearsal found on each host, and which CAs it may use. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from certsync.model.errors import CertsyncError, RolloutError
from certsync.model.fleet import DIRECTORIES, LETSENCRYPT, LETSENCRYPT_STAGING

NUMBER = 9999
"""The number of the generation that is pushed and thrown away: the last one, which none has."""


@dataclass(frozen=True)
class Finding:
    """One thing that was tested on one host."""

    host: str
    """A machine's name, or a public address."""

    what: str
    why: str = ""
    """Why it failed; empty: it passed."""

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """Parse what `to_json` wrote."""
        return cls(str(data["host"]), str(data["what"]), str(data["why"]))


def directory(of_fleet: str, asked: str) -> str:
    """Return the directory of the CA to rehearse with; ``asked`` is a name, a URL or empty.

    Raises:
        CertsyncError: orders there would count against limits.
    """
    chosen = DIRECTORIES.get(asked, asked)
    if not chosen and of_fleet in (LETSENCRYPT, LETSENCRYPT_STAGING):
        return LETSENCRYPT_STAGING
    if not chosen:
        raise CertsyncError(
            f"the fleet's certificate is from {of_fleet}: a test order there may count against its "
            "limits",
            "name the CA's test directory with --directory URL",
        )
    if chosen == LETSENCRYPT:
        raise CertsyncError(
            "a test order at Let's Encrypt's production CA counts against its limits",
            "omit --directory to use its staging CA",
        )
    if not chosen.startswith("https://"):
        raise CertsyncError(f"{asked!r} is not a CA's directory", "give the full https:// URL")
    return chosen


def table(findings: Sequence[Finding]) -> str:
    """Return the findings for people, one per line."""
    width = max((len(each.host) for each in findings), default=0)
    return "\n".join(f"{each.host:{width}}  {each.what}: {each.why or 'ok'}" for each in findings)


def error(findings: Sequence[Finding]) -> RolloutError | None:
    """Return the error that names every host where something failed; None: nothing did."""
    failed = [f"{each.host}: {each.what}: {each.why}" for each in findings if each.why]
    if not failed:
        return None
    return RolloutError(
        f"the rehearsal failed: {'; '.join(failed)}",
        "nothing live was touched; fix this and rehearse again",
    )

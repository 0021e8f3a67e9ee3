"""Whether CAA records permit the fleet's CA to issue: for `check --online`, and before a deploy."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence

from certsync.model.caa import Objection, Records, objection
from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import DIRECTORIES, Authority, Fleet
from certsync.model.paths import IssuerPaths
from certsync.operator.hosts import issuer_side
from certsync.system import caa, http_get
from certsync.system.http_get import Limits
from certsync.system.process import printable

LETSENCRYPT = ("letsencrypt.org",)
"""The domain in CAA records, also for its staging CA (https://letsencrypt.org/docs/caa/)."""

DIRECTORY = Limits(seconds=5, most=100_000)
SHOWN = 3
"""Names that a finding lists."""


def look(fleet: Fleet, *, ask_ca: bool = True) -> list[Finding]:
    """Return what CAA records have against an order for the fleet's names.

    What only delays knowledge, such as a resolver that does not answer, is a note. ``ask_ca``:
    whether the CA may be asked for its domains if they are unknown.
    """
    names = [name for each in fleet.lineages for name in each.names]
    found = caa.records(names)
    properties = [one for each in found.values() for one in each.properties]
    identities = _identities(fleet.authority, ask_ca=ask_ca) if properties else ()
    account = _account(fleet) if any(each.accounts for each in properties) else ""
    return findings(fleet, found, identities, account)


def findings(
    fleet: Fleet, found: Mapping[str, Records], identities: Sequence[str], account: str
) -> list[Finding]:
    """Return what is wrong, once for all names with the same records; see `objection`."""
    of_names: dict[Objection | Records, list[str]] = {}
    for name, each in found.items():
        wrong = each if each.failure else objection(name, each, identities, account)
        if wrong:
            of_names.setdefault(wrong, []).append(name)
    return [_finding(fleet, wrong, names) for wrong, names in of_names.items()]


def _finding(fleet: Fleet, wrong: Objection | Records, names: Sequence[str]) -> Finding:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    shown = f"{', '.join(names[:SHOWN])}{more}"
    if isinstance(wrong, Objection):
        text = f"{shown}: the CAA records at {wrong.at} {printable(wrong.text)}"
        hint = wrong.hint if wrong.is_certain else _of_first_order(fleet)
        return Finding("DNS", text, hint, stops=wrong.is_certain)
    text = f"{shown}: looking up CAA records failed: {wrong.failure}"
    hint = "run the same command again; if it fails again, check this machine's resolver"
    if wrong.broken:
        text += "; if a CA gets that answer, too, it refuses"
        hint = "check the zone's name servers, and its DNSSEC"
    return Finding("DNS", text, hint, stops=False)


def _of_first_order(fleet: Fleet) -> str:
    place = IssuerPaths().account(fleet.authority.directory) / "account.json"
    return (
        "this fleet's account is not known: a new one is registered before the first order. Remove "
        f"accounturi for that order, and set it afterwards to the uri in {place} on "
        f"{fleet.issuer_name}"
    )


def _account(fleet: Fleet) -> str:
    try:
        return printable(issuer_side.account(fleet))
    except HostError:
        # Everything else that asks the issuer reports that.
        return ""


def _identities(authority: Authority, *, ask_ca: bool) -> tuple[str, ...]:
    """Return the domains by which a CA knows itself in CAA records; none: unknown.

    RFC 8555 section 7.1.1, `caaIdentities`.
    """
    if authority.directory in DIRECTORIES.values():
        return LETSENCRYPT
    if not ask_ca:
        return ()
    try:
        trust = ssl.create_default_context(cafile=authority.directory_bundle or None)
        answer = http_get.get(authority.directory, DIRECTORY, context=trust)
        named = json.loads(answer.body)["meta"]["caaIdentities"]
        return tuple(printable(str(each)).lower() for each in named)
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return ()

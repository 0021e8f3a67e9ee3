"""CAA records: whether a CA may issue for a name (RFC 8659), by http-01 to our account (RFC 8657).

Pure: `certsync.system.caa` looks the records up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

CRITICAL = 128
"""The flag of a property that a CA must understand, or not issue (RFC 8659 section 4.1)."""

KNOWN_TAGS = (
    "issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone",
)  # fmt: skip
"""Properties that CAs understand (IANA's registry of CAA properties)."""

METHOD = "http-01"
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
PARAMETER = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)[ \t]*=[ \t]*([!-:<-~]*)")


@dataclass(frozen=True)
class Property:
    """One CAA record."""

    flags: int
    tag: str
    """In lower case."""

    value: str

    @cached_property
    def _parts(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the CA's domain in lower case, and the parameters.

        A malformed value permits no CA, as one without a domain (RFC 8659 section 4.2).
        """
        domain, *parts = (part.strip(" \t") for part in self.value.split(";"))
        domain = domain.lower()
        if parts == [""]:
            parts = []
        found = [PARAMETER.fullmatch(part) for part in parts]
        if (domain and not DOMAIN.fullmatch(domain)) or not all(found):
            return "", []
        return domain, [(each[1].lower(), each[3]) for each in found if each]

    @property
    def ca(self) -> str:
        """The CA's domain; empty: it permits none."""
        return self._parts[0]

    def parameters(self, tag: str) -> list[str]:
        """Return the values of the parameters with this tag; normally there is one at most."""
        return [value for key, value in self._parts[1] if key == tag]

    @property
    def permits_method(self) -> bool:
        """Whether it permits http-01: without a list of methods it permits all."""
        named = self.parameters("validationmethods")
        return not named or (len(named) == 1 and METHOD in named[0].split(","))

    @property
    def accounts(self) -> list[str]:
        """The accounts it permits, if it restricts them; two restrictions permit none."""
        return self.parameters("accounturi")


@dataclass(frozen=True)
class Records:
    """What a lookup for a name found."""

    at: str = ""
    """Where the closest records are: the name, or a parent. Empty: there are none."""

    properties: tuple[Property, ...] = ()
    failure: str = ""
    """Why the lookup failed; empty: it did not."""

    broken: bool = False
    """Whether the zone's servers or its DNSSEC failed, so that a CA will refuse, too."""


@dataclass(frozen=True)
class Objection:
    """Why a CA would refuse an order for a name."""

    at: str
    """Where the records are."""

    text: str
    hint: str
    is_certain: bool = True
    """Whether it will refuse; else that depends on an account which is unknown."""


def objection(
    name: str, found: Records, identities: Sequence[str], account: str
) -> Objection | None:
    """Return why the records forbid an order by http-01; None: they permit it.

    Args:
        name: the name on the certificate, perhaps a wildcard.
        found: its records.
        identities: the domains by which the CA knows itself; none: any may be it.
        account: our account's URL; empty: unknown.
    """
    for each in found.properties:
        if each.flags & CRITICAL and each.tag not in KNOWN_TAGS:
            text = f"have a critical property that CAs do not understand: {each.tag}"
            return Objection(found.at, text, "remove that record")
    asked = _relevant(name, found.properties)
    if not asked:
        return None
    cas = [each for each in asked if each.ca and (each.ca in identities or not identities)]
    if not cas:
        others = ", ".join(dict.fromkeys(each.ca for each in asked if each.ca))
        text = f"permit only {others}, not {' or '.join(identities)}" if others else "permit no CA"
        ours = next(iter(identities), "THE CA'S DOMAIN")
        return Objection(found.at, text, f'add: {found.at}. CAA 0 {asked[0].tag} "{ours}"')
    fit = [each for each in cas if each.permits_method]
    if not fit:
        methods = ", ".join(value for each in cas for value in each.parameters("validationmethods"))
        return Objection(
            found.at,
            f"permit {cas[0].ca} only the validation methods {methods}; certsync uses {METHOD}",
            f"add {METHOD} to its validationmethods",
        )
    return _of_account(found.at, fit, account)


def _relevant(name: str, properties: Sequence[Property]) -> list[Property]:
    """Return the properties that count: issuewild for a wildcard, if there is one; else issue."""
    wild = [each for each in properties if each.tag == "issuewild"]
    if name.startswith("*.") and wild:
        return wild
    return [each for each in properties if each.tag == "issue"]


def _of_account(at: str, fit: Sequence[Property], account: str) -> Objection | None:
    if any(not each.accounts or each.accounts == [account] for each in fit):
        return None
    named = ", ".join(dict.fromkeys(value for each in fit for value in each.accounts))
    text = f"permit {fit[0].ca} only for the account {named}"
    if not account:
        return Objection(at, text, "", is_certain=False)
    return Objection(at, f"{text}; this fleet's is {account}", f"set accounturi={account}")

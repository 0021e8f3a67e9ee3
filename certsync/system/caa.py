"""Find CAA records that restrict a CA to one account (RFC 8659, RFC 8657).

For the operator's machine: the issuer does not have dnspython.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.resolver import Resolver

SECONDS = 4.0
"""How long a resolver may take for one question, including retries."""

TAGS = ("issue", "issuewild")


@dataclass(frozen=True)
class Pin:
    """A CAA property that restricts a CA to one account."""

    name: str
    """Where the records are: the name on the certificate, or a parent."""

    ca: str
    """The CA's domain, `letsencrypt.org`."""

    account: str
    """The account's URL."""


def look_up(
    names: Sequence[str], tell: Callable[[str], None], resolver: Resolver | None = None
) -> list[Pin]:
    """Return what restricts the names to an account; each record set is listed once.

    A resolver that does not answer is only reported: nothing is known then. ``resolver`` defaults
    to the system's.
    """
    from dns.exception import DNSException

    found: dict[Pin, None] = {}
    try:
        asked = resolver or _system()
        for name in names:
            found.update(dict.fromkeys(_closest(name, asked)))
    except (DNSException, OSError) as error:
        tell(f"looking up CAA records failed: {error}")
        return []
    return list(found)


def _system() -> Resolver:
    import dns.resolver

    found = dns.resolver.Resolver()
    found.lifetime = SECONDS
    return found


def _closest(name: str, resolver: Resolver) -> list[Pin]:
    """Return the pins of the closest record set, from the name upwards (RFC 8659 section 3)."""
    import dns.resolver

    labels = name.rstrip(".").removeprefix("*.").split(".")
    for start in range(len(labels)):
        above = ".".join(labels[start:])
        try:
            answer = resolver.resolve(f"{above}.", "CAA", raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            continue
        if answer.rrset is not None:
            records = [(each.tag.decode(), each.value.decode()) for each in answer]
            return [pin for tag, value in records if (pin := parse(above, tag, value))]
    return []


def parse(name: str, tag: str, value: str) -> Pin | None:
    """Parse the pin in a CAA property; None: it names no account.

    RFC 8659 section 4.2: a CA's domain, then parameters separated by semicolons.
    """
    if tag.lower() not in TAGS:
        return None
    ca, *parameters = (part.strip() for part in value.split(";"))
    for parameter in parameters:
        key, _, account = parameter.partition("=")
        if key.strip().lower() == "accounturi":
            return Pin(name, ca, account.strip())
    return None

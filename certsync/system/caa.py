"""Look up CAA records (RFC 8659). `certsync.model.caa` judges them.

For the operator's machine: the issuer does not have dnspython.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certsync.model.caa import Property, Records
from certsync.system import parallel
from certsync.system.deadline import within
from certsync.system.process import printable

if TYPE_CHECKING:
    from dns.resolver import Resolver

SECONDS = 4.0
"""How long a resolver may take for one question, including retries."""

SECONDS_A_NAME = 15.0
"""How long all questions about a name may take, from itself to its top-level domain."""

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


def records(names: Sequence[str], resolver: Resolver | None = None) -> dict[str, Records]:
    """Return the closest records of each name; ``resolver`` defaults to the system's."""
    from dns.exception import DNSException

    try:
        asked = resolver or _system()
    except (DNSException, OSError) as error:
        return dict.fromkeys(names, Records(failure=printable(str(error))))

    def look(name: str) -> Records:
        try:
            return within(SECONDS_A_NAME, lambda: _closest(name, asked))
        except (DNSException, OSError) as error:
            return Records(failure=printable(str(error)), broken=_is_broken(error))

    return dict(zip(names, parallel.each(look, names), strict=True))


def look_up(
    names: Sequence[str], tell: Callable[[str], None], resolver: Resolver | None = None
) -> list[Pin]:
    """Return what restricts the names to an account; each record set is listed once.

    A resolver that does not answer is only reported: nothing is known then. ``resolver`` defaults
    to the system's.
    """
    found = records(names, resolver)
    for failure in dict.fromkeys(each.failure for each in found.values() if each.failure):
        tell(f"looking up CAA records failed: {failure}")
    pins = [pin for each in found.values() for pin in _pins(each)]
    return list(dict.fromkeys(pins))


def _pins(found: Records) -> list[Pin]:
    return [
        Pin(found.at, each.ca, account)
        for each in found.properties
        if each.tag in TAGS
        for account in each.accounts[:1]
    ]


def _system() -> Resolver:
    import dns.resolver

    found = dns.resolver.Resolver()
    found.lifetime = SECONDS
    # Names of a fleet share their parents.
    found.cache = dns.resolver.LRUCache()
    return found


def _closest(name: str, resolver: Resolver) -> Records:
    """Return the closest record set, from the name upwards (RFC 8659 section 3)."""
    import dns.resolver

    labels = name.rstrip(".").removeprefix("*.").split(".")
    for start in range(len(labels)):
        above = ".".join(labels[start:])
        try:
            answer = resolver.resolve(f"{above}.", "CAA", raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            continue
        if answer.rrset is not None:
            return Records(above, tuple(map(_property, answer)))
    return Records()


def _property(record: Any) -> Property:
    # Anybody may write anything into them, and a value must be judged as a whole.
    tag, value = (each.decode("ascii", "replace") for each in (record.tag, record.value))
    return Property(record.flags, printable(tag).lower(), value)


def _is_broken(error: Exception) -> bool:
    """Return whether a resolver says that the zone's servers, or its DNSSEC, failed.

    A CA must then not issue (RFC 8659 section 3). Silence may be only ours.
    """
    import dns.rcode
    import dns.resolver

    if not isinstance(error, dns.resolver.NoNameservers):
        return False
    answers = [each[4] for each in error.kwargs.get("errors", ())]
    return any(each is not None and each.rcode() == dns.rcode.SERVFAIL for each in answers)

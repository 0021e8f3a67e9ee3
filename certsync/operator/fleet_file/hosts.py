"""Rules for names and addresses in a fleet file, and for values that contain a host.

As in `rules`, each takes the value as written and returns it as the fleet stores it.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from certsync.model.fleet import DIRECTORIES
from certsync.operator.fleet_file import international
from certsync.operator.fleet_file.rules import LABEL, UnfitError, did_you_mean, quoted

LONGEST_NAME = 253
"""RFC 1123 section 2.1, without the trailing dot."""

SHORTEST_PREFIX = 8
"""Bits; no provider's balancers are in a larger network."""

MAILBOX = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*")
URL_PATH = re.compile(r"[A-Za-z0-9/._~!*+,=:@%?&-]*")
PORT = re.compile(r"[1-9][0-9]{0,4}")
UNSAFE_IN_URL = set("\"'`<>\\")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Names


def _is_host_name(value: str) -> bool:
    labels = value.split(".")
    # A last label of digits is a mistyped IPv4 address (RFC 1123 section 2.1).
    return (
        len(value) <= LONGEST_NAME
        and all(LABEL.fullmatch(label) for label in labels)
        and not labels[-1].isdigit()
    )


def _lower_case(value: str) -> None:
    if value.isascii() and value != value.lower():
        raise UnfitError(f"{quoted(value)} has capital letters", f"write {quoted(value.lower())}")


def certificate_name(value: str) -> str:
    """Return a name that http-01 can validate."""
    if _address(value):
        raise UnfitError(
            f"{quoted(value)} is an IP address, not a name",
            "write the DNS name that resolves to it",
        )
    if "*" in value:
        raise UnfitError(
            f"{quoted(value)} is a wildcard, which http-01 cannot validate",
            "list each name separately",
        )
    if not value.isascii():
        written = international.in_ascii(value) or "xn--..."
        raise UnfitError(
            f"{quoted(value)} is not ASCII", f"write it in punycode: {quoted(written)}"
        )
    _lower_case(value)
    if len(value) > LONGEST_NAME:
        raise UnfitError(
            f"{quoted(value)} is {len(value)} characters long", f"a name has at most {LONGEST_NAME}"
        )
    if not _is_host_name(value):
        raise UnfitError(
            f"{quoted(value)} is not a host name",
            "use labels of a-z, 0-9 and inner hyphens, at most 63 characters each, joined by dots",
        )
    if wrong := [each for each in value.split(".") if not international.is_label(each)]:
        raise UnfitError(
            f"{quoted(value)} is not a host name: {quoted(wrong[0])} is no valid punycode",
            "CAs refuse such a name; is it spelled right?",
        )
    if "." not in value:
        raise UnfitError(
            f"{quoted(value)} has only one label", 'write the full name: "www.example.com"'
        )
    return value


# Addresses


def _address(value: str) -> Address | None:
    # A zone ("fe80::1%eth0") means nothing on another host, and may hold any character.
    if "%" in value:
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def _unusable(address: Address) -> str:
    """Return why no host can have this address; empty: a host can."""
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if address.version == 4:
        return "a reserved address" if address.is_reserved else ""
    if address.ipv4_mapped:
        return f"{address.ipv4_mapped} in IPv6 form"
    return "a link-local address" if address.is_link_local else ""


def ip_address(value: str) -> str:
    """Return an IP address that a host can have, in its shortest form."""
    address = _address(value)
    if address is None:
        raise UnfitError(
            f"{quoted(value)} is not an IP address",
            'write one like "203.0.113.10" or "2001:db8::10"',
        )
    if reason := _unusable(address):
        raise UnfitError(
            f"{quoted(value)} is {reason}", "write an address at which other hosts reach it"
        )
    return str(address)


def network(value: str) -> str:
    """Return an IP address, or a network in CIDR notation (RFC 4632 section 3.1)."""
    if "/" not in value:
        return ip_address(value)
    try:
        found = ipaddress.ip_network("" if "%" in value else value)
    except ValueError:
        raise UnfitError(
            f"{quoted(value)} is not a network",
            'write its first address and prefix length: "10.0.0.0/24"',
        ) from None
    if found.prefixlen < SHORTEST_PREFIX:
        raise UnfitError(
            f"{quoted(value)} covers a large part of the Internet",
            "list only the balancer's networks: anybody in them could fake a client's address",
        )
    return str(found)


def machine_address(value: str) -> str:
    """Return where SSH reaches a machine: an IP address or a host name."""
    if _address(value):
        return ip_address(value)
    _lower_case(value)
    if not _is_host_name(value):
        raise UnfitError(
            f"{quoted(value)} is neither an IP address nor a host name",
            'write one like "203.0.113.11" or "web-1.example.com"',
        )
    return value


def is_ip_address(value: str) -> bool:
    """Return whether this is an IP address and not a name."""
    return _address(value) is not None


# Values that contain a host


def _split(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def directory(value: str) -> str:
    """Return an ACME directory's URL."""
    if value in DIRECTORIES:
        return DIRECTORIES[value]
    known = ", ".join(quoted(word) for word in DIRECTORIES)
    if not value.startswith("https://"):
        raise UnfitError(
            f"{quoted(value)} is not a CA that certsync knows",
            did_you_mean(value, list(DIRECTORIES), quote='"')
            or f"write {known} or a directory's https:// URL",
        )
    parts = _split(value)
    host = (parts.hostname or "") if parts else ""
    plain = parts and "@" not in parts.netloc and not parts.fragment
    in_ascii = URL_PATH.fullmatch(value.removeprefix("https://").replace("[", "").replace("]", ""))
    if not (plain and in_ascii and (_address(host) or _is_host_name(host))):
        raise UnfitError(
            f"{quoted(value)} is not a directory URL",
            'write one like "https://ca.example.com/acme/directory"',
        )
    return value


def heartbeat_url(value: str) -> str:
    """Return the URL that good runs request; empty: none.

    Anybody who knows it can fake a good run, so no message repeats it.
    """
    if not value:
        return value
    parts = _split(value)
    host = (parts.hostname or "") if parts else ""
    has_host = _address(host) is not None or _is_host_name(host)
    if parts is None or parts.scheme not in ("http", "https") or not has_host:
        raise UnfitError(
            "is not an http:// or https:// URL",
            'write one like "https://monitor.example.com/ping/7"',
        )
    if any(not "!" <= char <= "~" or char in UNSAFE_IN_URL for char in value):
        raise UnfitError(
            "has characters that a URL cannot have",
            "remove white space and quotes, and percent-encode other characters (%C3%BC)",
        )
    if "@" in parts.netloc:
        raise UnfitError("contains a user or a password", "use a URL that needs none")
    return value


def upstream(value: str) -> str:
    """Return the address of an application on the backend itself."""
    host, _, number = value.rpartition(":")
    if not (host and PORT.fullmatch(number) and int(number) <= 65535):
        raise UnfitError(
            f"{quoted(value)} is not a host and port", 'write one like "127.0.0.1:3000"'
        )
    bracketed = host.startswith("[") and host.endswith("]")
    address = _address(host[1:-1] if bracketed else host)
    loopback = address is not None and address.is_loopback and bracketed == (address.version == 6)
    if host != "localhost" and not loopback:
        raise UnfitError(
            f"{quoted(value)} is not on the backend itself",
            'start it with "127.0.0.1:", "[::1]:" or "localhost:"',
        )
    return value


def email(value: str) -> str:
    """Return an e-mail address."""
    mailbox, _, domain = value.rpartition("@")
    if not (MAILBOX.fullmatch(mailbox) and "." in domain and _is_host_name(domain.lower())):
        raise UnfitError(
            f"{quoted(value)} is not an e-mail address",
            'write only the address: "admin@example.com"',
        )
    return value

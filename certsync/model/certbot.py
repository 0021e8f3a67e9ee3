"""What certbot keeps for a lineage, and whether we can adopt it as a generation. Pure.

Paths and the format of renewal/NAME.conf are certbot's own (its user guide, "Where are my
certificates?"): an INI file whose keys may be edited by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certsync.model.certificate import Certificate, parse_chain
from certsync.model.errors import StoreError
from certsync.model.fleet import DIRECTORIES, LETSENCRYPT_STAGING, Fleet, Lineage
from certsync.model.generation import Manifest

HOME = "/etc/letsencrypt"
SECTION = re.compile(r"\s*\[renewalparams\]\s*(#.*)?$")
ANY_SECTION = re.compile(r"\s*\[")
AUTORENEW = re.compile(r"\s*autorenew\s*=")
SERVER = re.compile(r"\s*server\s*=\s*(?P<quote>[\"']?)(?P<url>[^\"'\s#]+)(?P=quote)")
OFF = "autorenew = False"


@dataclass(frozen=True)
class Public:
    """What certbot has for a lineage, without its key."""

    certificate: Certificate
    server: str
    """The directory of the CA that renews it."""


def renewal_file(lineage: str) -> str:
    """Return the path of certbot's renewal configuration for a lineage."""
    return f"{HOME}/renewal/{lineage}.conf"


def missing(lineage: str, there: Sequence[str]) -> StoreError:
    """Return the error for a lineage that certbot lacks; ``there`` are the ones it has."""
    has = f"it has {', '.join(sorted(there))}" if there else "it has none"
    return StoreError(
        f"certbot has no lineage {lineage} on the issuer: {has}",
        "the lineage must be called by the first name in the fleet file; if certbot has no such "
        "certificate, `certsync deploy FLEET` orders one",
    )


def read(lineage: str, pems: dict[str, str], renewal: str) -> Public:
    """Parse certbot's files: ``pems`` are cert.pem, chain.pem and fullchain.pem.

    Raises:
        StoreError: they are not certificates, or do not belong together.
    """
    place = f"{HOME}/live/{lineage}"
    try:
        whole = parse_chain(pems["fullchain.pem"])
        leaf = parse_chain(pems["cert.pem"])
    except StoreError as error:
        raise StoreError(f"{place}: {error.message}", "see `certbot certificates`") from None
    if leaf.fingerprint != whole.fingerprint:
        raise StoreError(
            f"{place}: cert.pem is not the first certificate of fullchain.pem",
            "`certbot certificates` lists what it has",
        )
    chain = pems["chain.pem"].strip()
    if (parse_chain(chain).chain_der if chain else ()) != whole.chain_der[1:]:
        raise StoreError(
            f"{place}: chain.pem is not the rest of fullchain.pem",
            "`certbot certificates` lists what it has",
        )
    return Public(whole, server(renewal))


def server(renewal: str) -> str:
    """Return the CA directory in a renewal file; empty: none."""
    for line in _params(renewal):
        if found := SERVER.match(line):
            return found["url"]
    return ""


def refuse_unfit(fleet: Fleet, lineage: Lineage, held: Public, now: datetime) -> None:
    """Refuse a certificate that would have to be replaced immediately.

    Raises:
        StoreError: it does not match the fleet file, or has expired.
    """
    certificate, name = held.certificate, lineage.name
    wanted = fleet.authority.directory
    if held.server != wanted:
        raise StoreError(
            f"certbot's {name} is from {_ca(held.server)}, but the fleet file names {wanted}",
            "certsync does not take over another CA's certificate: `certsync deploy FLEET` orders "
            "one",
        )
    if certificate.names != tuple(sorted(lineage.names)):
        raise StoreError(
            f"certbot's {name} is for {', '.join(certificate.names)}, but the fleet file lists "
            f"{', '.join(sorted(lineage.names))}",
            "put the same names in the fleet file, adopt, then change them",
        )
    if now >= certificate.not_after:
        raise StoreError(
            f"certbot's {name} expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC",
            "`certsync deploy FLEET` orders a new certificate instead",
        )
    if certificate.key_type is None:
        raise StoreError(
            f"certbot's {name} has a key type that certsync does not support",
            "`certsync deploy FLEET` orders a new certificate instead",
        )
    if certificate.key_type is not lineage.key_type:
        raise StoreError(
            f"certbot's {name} has a key of type {certificate.key_type.value}, but the fleet "
            f"file says {lineage.key_type.value}",
            f'set key_type = "{certificate.key_type.value}" under [certificate], adopt, then '
            "change it",
        )


def _ca(directory: str) -> str:
    if directory == LETSENCRYPT_STAGING:
        return "Let's Encrypt's staging CA, which browsers do not trust"
    if not directory:
        return "a CA that its renewal file does not name"
    names = {url: name for name, url in DIRECTORIES.items()}
    return names.get(directory, directory)


def is_taken(held: Public, kept: Sequence[Manifest]) -> bool:
    """Return whether it has been taken over already, or a newer certificate is kept."""
    certificate = held.certificate
    return any(
        each.fingerprint == certificate.fingerprint or each.not_before > certificate.not_before
        for each in kept
    )


def not_renewed(renewal: str) -> str:
    """Return the renewal file with autorenew switched off: one line changed or added.

    Raises:
        StoreError: it has no section for that line.
    """
    lines = renewal.splitlines(keepends=True)
    inside, header = False, None
    for number, line in enumerate(lines):
        if SECTION.match(line):
            inside, header = True, number
        elif ANY_SECTION.match(line):
            inside = False
        elif inside and AUTORENEW.match(line):
            if is_off(line):
                return renewal
            lines[number] = OFF + _ending(line)
            return "".join(lines)
    if header is None:
        raise StoreError(
            "certbot's renewal file has no [renewalparams] section", "see `certbot certificates`"
        )
    ending = _ending(lines[header])
    lines[header] = f"{lines[header].removesuffix(ending)}{ending or chr(10)}"
    lines.insert(header + 1, f"{OFF}{ending or chr(10)}")
    return "".join(lines)


def is_off(line: str) -> bool:
    """Return whether an autorenew line switches renewal off."""
    value = line.partition("=")[2].partition("#")[0].strip().strip("\"'").lower()
    return value in ("false", "no", "off", "0")


def _params(renewal: str) -> list[str]:
    inside, found = False, []
    for line in renewal.splitlines():
        if ANY_SECTION.match(line):
            inside = bool(SECTION.match(line))
        elif inside:
            found.append(line)
    return found


def _ending(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]


@dataclass(frozen=True)
class Mention:
    """A line of nginx's configuration that refers to one of certbot's files."""

    host: str
    place: str
    """File and line, `/etc/nginx/sites-enabled/shop:12`."""

    text: str


MENTIONS = (
    f"grep -RnIs {HOME}/ /etc/nginx/nginx.conf /etc/nginx/conf.d /etc/nginx/sites-enabled "
    "/etc/nginx/snippets || :"
)
"""Prints every line of nginx's configuration that refers to one of certbot's files."""


def mentions(host: str, output: str) -> list[Mention]:
    """Parse what `MENTIONS` printed on a host; comments are left out."""
    found = []
    for line in output.splitlines():
        file, number, text = (*line.split(":", 2), "", "")[:3]
        if text and not text.lstrip().startswith("#"):
            found.append(Mention(host, f"{file}:{number}", text.strip()))
    return found

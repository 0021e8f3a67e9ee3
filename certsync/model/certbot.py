"""What certbot keeps of a lineage, and whether it can become a generation of ours. Pure.

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
    """What certbot has of a lineage, its key left out."""

    certificate: Certificate
    server: str
    """The directory of the CA that it asks to renew."""


def renewal_file(lineage: str) -> str:
    """Return the path of what certbot renews a lineage by."""
    return f"{HOME}/renewal/{lineage}.conf"


def missing(lineage: str, there: Sequence[str]) -> StoreError:
    """Return the error for a lineage that certbot does not have; ``there`` are those it has."""
    has = f"it has {', '.join(sorted(there))}" if there else "it has none at all"
    return StoreError(
        f"certbot has no lineage {lineage} on the issuer: {has}",
        "the lineage has the first of the fleet file's names; without one, `certsync deploy FLEET` "
        "orders a certificate",
    )


def read(lineage: str, pems: dict[str, str], renewal: str) -> Public:
    """Return what certbot's files say: ``pems`` are cert.pem, chain.pem and fullchain.pem.

    Raises:
        StoreError: they are no certificates, or do not fit together.
    """
    place = f"{HOME}/live/{lineage}"
    try:
        whole = parse_chain(pems["fullchain.pem"])
        leaf = parse_chain(pems["cert.pem"])
    except StoreError as error:
        raise StoreError(f"{place}: {error.message}", "certbot certificates shows it") from None
    if leaf.fingerprint != whole.fingerprint:
        raise StoreError(
            f"{place}: cert.pem is not the first certificate of fullchain.pem",
            "certbot certificates shows what it has",
        )
    chain = pems["chain.pem"].strip()
    if (parse_chain(chain).chain_der if chain else ()) != whole.chain_der[1:]:
        raise StoreError(
            f"{place}: chain.pem is not the rest of fullchain.pem",
            "certbot certificates shows what it has",
        )
    return Public(whole, server(renewal))


def server(renewal: str) -> str:
    """Return the directory that a renewal file names; empty: none."""
    for line in _params(renewal):
        if found := SERVER.match(line):
            return found["url"]
    return ""


def refuse_unfit(fleet: Fleet, lineage: Lineage, held: Public, now: datetime) -> None:
    """Refuse what would have to be ordered anew at once.

    Raises:
        StoreError: it is not what the fleet file asks for, or has expired.
    """
    certificate, name = held.certificate, lineage.name
    wanted = fleet.authority.directory
    if held.server != wanted:
        raise StoreError(
            f"certbot's {name} is from {_ca(held.server)}, and the fleet file names {wanted}",
            "a certificate of another CA is not taken over: `certsync deploy FLEET` orders one",
        )
    if certificate.names != tuple(sorted(lineage.names)):
        raise StoreError(
            f"certbot's {name} is for {', '.join(certificate.names)}, and the fleet file says "
            f"{', '.join(sorted(lineage.names))}",
            "write the same names, adopt, and change them afterwards",
        )
    if now >= certificate.not_after:
        raise StoreError(
            f"certbot's {name} expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC",
            "there is nothing to take over: `certsync deploy FLEET` orders a certificate",
        )
    if certificate.key_type is None:
        raise StoreError(
            f"certbot's {name} has a key of a kind that certsync does not make",
            "there is nothing to take over: `certsync deploy FLEET` orders a certificate",
        )
    if certificate.key_type is not lineage.key_type:
        raise StoreError(
            f"certbot's {name} has a key of type {certificate.key_type.value}, and the fleet "
            f"file says {lineage.key_type.value}",
            f'write key_type = "{certificate.key_type.value}" under [certificate], adopt, and '
            "change it afterwards",
        )


def _ca(directory: str) -> str:
    if directory == LETSENCRYPT_STAGING:
        return "Let's Encrypt's staging CA, which nobody trusts"
    if not directory:
        return "a CA that its renewal file does not name"
    names = {url: name for name, url in DIRECTORIES.items()}
    return names.get(directory, directory)


def is_taken(held: Public, kept: Sequence[Manifest]) -> bool:
    """Return whether there is nothing to take over: it is kept already, or something newer is."""
    certificate = held.certificate
    return any(
        each.fingerprint == certificate.fingerprint or each.not_before > certificate.not_before
        for each in kept
    )


def not_renewed(renewal: str) -> str:
    """Return a renewal file by which certbot no longer renews: one line of it is other, or is new.

    Raises:
        StoreError: it has no section that the line could be in.
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
            "certbot's renewal file has no [renewalparams]", "certbot certificates shows it"
        )
    ending = _ending(lines[header])
    lines[header] = f"{lines[header].removesuffix(ending)}{ending or chr(10)}"
    lines.insert(header + 1, f"{OFF}{ending or chr(10)}")
    return "".join(lines)


def is_off(line: str) -> bool:
    """Return whether a line is one by which certbot no longer renews."""
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
    """A line of nginx's configuration that names a file of certbot's."""

    host: str
    place: str
    """File and line, `/etc/nginx/sites-enabled/shop:12`."""

    text: str


MENTIONS = (
    f"grep -RnIs {HOME}/ /etc/nginx/nginx.conf /etc/nginx/conf.d /etc/nginx/sites-enabled "
    "/etc/nginx/snippets || :"
)
"""Prints every line of nginx's configuration that names a file of certbot's."""


def mentions(host: str, output: str) -> list[Mention]:
    """Return what `MENTIONS` printed on a host; what is commented out is none."""
    found = []
    for line in output.splitlines():
        file, number, text = (*line.split(":", 2), "", "")[:3]
        if text and not text.lstrip().startswith("#"):
            found.append(Mention(host, f"{file}:{number}", text.strip()))
    return found

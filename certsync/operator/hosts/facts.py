"""What is on a host before certsync touches it. Pure.

`parse` reads the survey's lines (certsync/programs/survey.sh): a keyword and its values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certsync.model.identity import Identity, in_marker
from certsync.programs.receiver import INBOX, RECEIVING_USER

MARK = "Written by certsync"
"""Part of the first line of every file we write."""

NOBODY = Identity()
BALANCER = "balancer"
"""Follows a balancer's name in the issuer's list of machines."""

STATISTICS_PORT = 8404
"""The balancer's statistics page, on loopback."""

PEER_PORT = 10000
"""The port on which balancers share their stick tables."""

FIRST_PERSON = 1000
"""The lowest user id of a person's account (Debian Policy 9.2.2)."""

HOME = str(INBOX.parent)

SUPPORTED = {("debian", "12"), ("debian", "13")}
BY_READING = {("ubuntu", "22.04"), ("ubuntu", "24.04"), ("ubuntu", "26.04")}


@dataclass(frozen=True)
class Listener:
    """A program that listens on a port."""

    port: int
    program: str
    """Its name; `?` if the kernel does not tell."""

    process: int
    unit: str = ""
    """The systemd unit that it belongs to; empty: unknown, or none."""

    path: str = ""
    """The file that it runs; empty: unknown."""


@dataclass(frozen=True)
class HostFacts:
    """The facts of a host."""

    os: tuple[str, str] = ("", "")
    arch: str = ""
    time: int = 0
    """The host's clock, in seconds since 1970."""

    disk_mb: int | None = None
    """Free MB where we write, on the fullest of the disks; None: unknown."""

    python: tuple[int, ...] = ()
    listeners: tuple[Listener, ...] = ()
    haproxy: str = ""
    """`ours`, `distribution` or `foreign`; empty: no haproxy.cfg."""

    keepalived: str = ""
    """The same for keepalived.conf."""

    nginx_sites: tuple[tuple[str, str], ...] = ()
    """Origin and path of each enabled site."""

    other_nginx: str = ""
    """Path and version of an nginx that is not the distribution's; empty: there is none."""

    nginx_without: tuple[str, ...] = ()
    """Folders below /etc/nginx that nginx.conf does not include."""

    account: str = ""
    """The home of a person's account with the receiving user's name; empty: there is none."""

    issuer: bool = False
    """Whether it has an issuer's marker."""

    original: Identity = NOBODY
    """The machine that this marker was written for."""

    original_address: str = ""
    """That machine's private address then; empty: an earlier version wrote the marker."""

    machine: str = ""
    """What tells this machine from a copy of it: see `model/identity.py`."""

    addresses: tuple[str, ...] = ()
    """Its own, without prefix length."""

    known_balancers: tuple[str, ...] = ()
    """The balancers among `known_machines`."""

    known_machines: tuple[str, ...] = ()
    """On an issuer: the machines of the deployed fleet."""

    ufw: str = ""
    """`active` or `inactive`; empty: not installed."""

    limited: tuple[str, ...] = ()
    """Services and ports with a `limit` rule in UFW."""

    expired: tuple[str, ...] = ()
    """Of root and the operator's user, those whose password or account has expired."""

    history: str = ""
    """The version control that has all of /etc, with our keys: `git`, `hg`, `bzr`; empty: none."""


def parse(lines: Sequence[str]) -> HostFacts:
    """Parse the script's output; other lines are ignored."""
    words = [word for line in lines if (word := line.split(" "))[1:] or line == "issuer"]
    first = {word[0]: word[1:] for word in reversed(words)}
    os_id, os_version = (*first.get("os", []), "", "")[:2]
    return HostFacts(
        os=(os_id, os_version),
        arch=_first(first, "arch"),
        time=int(_first(first, "time")) if _is_number(_first(first, "time")) else 0,
        disk_mb=int(_first(first, "disk")) if _is_number(_first(first, "disk")) else None,
        python=tuple(int(part) for part in _first(first, "python").split(".") if _is_number(part)),
        listeners=tuple(dict.fromkeys(_listeners(words))),
        haproxy=_first(first, "haproxy"),
        keepalived=_first(first, "keepalived"),
        nginx_sites=tuple((word[1], " ".join(word[2:])) for word in words if word[0] == "nginx"),
        other_nginx=" ".join(first.get("nginx-of-others", ())),
        nginx_without=tuple(word[1] for word in words if word[0] == "nginx-without"),
        account=next((home for line in lines if (home := _of_person(line))), ""),
        issuer="issuer" in first,
        original=in_marker(f"machine {' '.join(first.get('original', []))}"),
        original_address=_first(first, "original-address"),
        machine=_first(first, "machine"),
        addresses=tuple(
            word[2].partition("/")[0] for word in words if word[0] == "address" and word[2:]
        ),
        known_balancers=tuple(
            word[1] for word in words if word[0] == "known" and word[2:] == [BALANCER]
        ),
        known_machines=tuple(word[1] for word in words if word[0] == "known"),
        ufw=_first(first, "ufw"),
        limited=tuple(word[1] for word in words if word[0] == "limit"),
        expired=tuple(word[1] for word in words if word[0] == "expired"),
        history=_first(first, "history"),
    )


def _is_number(text: str) -> bool:
    """Return whether a text is a number of reasonable size."""
    return re.fullmatch("[0-9]{1,15}", text) is not None


def _listeners(words: Sequence[Sequence[str]]) -> Iterator[Listener]:
    processes = {
        word[1]: (word[2].removeprefix("-"), " ".join(word[3:]).removesuffix(" (deleted)"))
        for word in words
        if word[0] == "process" and word[3:]
    }
    for word in words:
        if word[0] == "listener" and word[3:] and all(map(_is_number, word[1:3])):
            behind = processes.get(word[2], ("", ""))
            yield Listener(int(word[1]), " ".join(word[3:]), int(word[2]), *behind)


def _of_person(line: str) -> str:
    """Return the home in a line of passwd(5) that is a person's account named as ours."""
    found = line.removeprefix("user ").split(":")
    if len(found) != 7 or found[0] != RECEIVING_USER or not _is_number(found[2]):
        return ""
    return found[5] if int(found[2]) >= FIRST_PERSON and found[5] != HOME else ""


def _first(words: dict[str, list[str]], key: str) -> str:
    values = words.get(key)
    return values[0] if values else ""


@dataclass(frozen=True)
class Adopt:
    """Whose files may be replaced by ours, with a dated copy kept."""

    nginx: bool = False
    haproxy: bool = False

"""A test file where challenge files go, fetched as the CA would, before an order is spent.

It is asked of every backend by its own address, with the name as Host header, and then of each
public address: the way a validator goes. What was seen is judged by `misses`, which is pure.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from certsync.issuer.webroot import WELL_KNOWN, present
from certsync.model.fleet import Fleet
from certsync.system import parallel

SECONDS = 5.0
"""How long an answer may take, all of it."""

LARGEST = 1024
HTTP_PORT = 80
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""A router on the way may say so too, where this machine itself knows a route."""


@dataclass(frozen=True)
class Sighting:
    """What one address answered when it was asked for the canary."""

    where: str
    """A backend's name, or the public address."""

    address: str
    public: bool
    """Whether this is the way a validator goes, not a backend by itself."""

    reached: bool
    seen: bool
    """Whether the canary's content came back."""

    answer: str
    """What came instead, in words."""

    refused: bool = False
    """Whether the connection was refused or cut off there, as a validator's would be."""

    no_route: bool = False
    """Whether there is no way from this machine to a public address: it says nothing about it."""


@dataclass(frozen=True)
class Judgement:
    """What the sightings mean for an order."""

    misses: tuple[str, ...]
    """Where a challenge would be lost: each stops a first order."""

    told: tuple[str, ...]
    """What a person should know and does not stop an order."""


def look(fleet: Fleet, name: str, webroot: Path) -> list[Sighting]:
    """Put a canary into the webroot, ask everybody for it by a name, and take it away."""
    token = f"certsync-canary-{secrets.token_hex(8)}"
    content = secrets.token_hex(32)
    places = [(host.name, host.private_address, False) for host in fleet.backends]
    places += [(address, address, True) for address in fleet.public_addresses]
    with present(webroot, {token: content}), ThreadPoolExecutor(parallel.AT_ONCE) as pool:
        jobs = [
            pool.submit(_ask, where, address, public, name, token, content)
            for where, address, public in places
        ]
        return [job.result() for job in jobs]


def _ask(where: str, address: str, public: bool, name: str, token: str, content: str) -> Sighting:
    from http.client import HTTPException

    from certsync.system import http_get

    place = f"[{address}]" if ":" in address else address
    try:
        answer = http_get.get(
            f"http://{place}:{HTTP_PORT}/{WELL_KNOWN}/{token}",
            http_get.Limits(SECONDS, LARGEST), headers={"Host": name}, directly=True,
        )  # fmt: skip
    except (OSError, ValueError, HTTPException) as error:
        return _missed(where, address, public, error)
    body = answer.body.decode(errors="replace")
    seen = answer.status == 200 and body == content
    told = f"HTTP {answer.status}"
    if not seen and answer.status == 200:
        told = f"something else ({' '.join(body.split())[:60]!r})"
    return Sighting(where, address, public, reached=True, seen=seen, answer=told)


def _missed(where: str, address: str, public: bool, error: Exception) -> Sighting:
    if not isinstance(error, OSError):
        told = f"no HTTP ({' '.join(str(error).split())[:60]!r})"
        return Sighting(where, address, public, reached=True, seen=False, answer=told)
    refused = isinstance(error, ConnectionError)
    has_route = refused or _has_route(address)
    answer = getattr(error, "strerror", "") or str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError):
        answer = f"it refuses connections on port {HTTP_PORT}"
    if not has_route:
        answer = "this machine has no route there"
    no_route = not has_route or (public and error.errno in NO_ROUTE)
    return Sighting(
        where, address, public,
        reached=False, seen=False, answer=answer, refused=refused, no_route=no_route,
    )  # fmt: skip


def _has_route(address: str) -> bool:
    """Return whether this machine would send anything to an address; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, HTTP_PORT))
    except OSError:
        return False
    return True


def hidden(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Return the public addresses that were not reached, where that is no fault of the balancer's.

    This machine has no route there; or it gets an answer from none of them, as in a network without
    hairpin NAT. The CA may get there all the same.
    """
    public = [each for each in sightings if each.public]
    routed = [each for each in public if not each.no_route]
    silent = [each for each in routed if not each.reached and not each.refused]
    away = [each for each in public if each.no_route]
    return away + silent if len(silent) == len(routed) else away


def judge(fleet: Fleet, sightings: Sequence[Sighting]) -> Judgement:
    """Return where a challenge would be lost, and what else to tell.

    A backend that cannot be reached gets no traffic from a balancer that checks its members, so
    it is told; one that answers something else gets its share of validations, and stops. So does a
    balancer that refuses connections: the CA's would be refused too.
    """
    backends = [each for each in sightings if not each.public]
    public = [each for each in sightings if each.public]
    misses = [
        f"{each.where} ({each.address}): answers {each.answer}"
        for each in backends
        if each.reached and not each.seen
    ]
    told = [
        f"{each.where} ({each.address}): not reached on port 80: {each.answer}"
        for each in backends
        if not each.reached
    ]
    unknown = hidden(public)
    misses += [
        f"{each.address}: {'answers' if each.reached else 'not reached:'} {each.answer}"
        for each in public
        if not each.seen and each not in unknown
    ]
    told += [f"{each.address}: not reached from the issuer: {each.answer}" for each in unknown]
    if not any(each.seen for each in backends):
        misses.append(f"{fleet.issuer_name}: no backend shows the challenge folder")
    return Judgement(tuple(misses), tuple(told))


def leads_here(
    sightings: Sequence[Sighting], refusing: Collection[str], *, late: bool
) -> bool | None:
    """Return whether challenges are still sent to this issuer; None: nobody can be asked.

    A promotion would have changed that. The public addresses say it, all of those that are reached;
    ``late``, when the live certificate is about to expire, one is enough. Where none can be reached
    from here, the replicas that refuse the key can speak for this issuer, and not against it: one
    of them may be hostile.
    """
    public = [each.seen for each in sightings if each.public and each.reached]
    if public:
        return any(public) if late else all(public)
    asked = [each.seen for each in sightings if not each.public and each.where in refusing]
    return True if asked and all(asked) else None

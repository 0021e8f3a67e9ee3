"""Put a test file where challenge files go and fetch it like the CA would, before an order.

It is requested from every backend at its own address, with the name as Host header, and from each
public address, as a validator does. `judge`, which is pure, evaluates the results.
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
"""How long a complete answer may take."""

LARGEST = 1024
HTTP_PORT = 80
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""A router on the path may report these, too, even if this machine has a route."""


@dataclass(frozen=True)
class Sighting:
    """One address's answer to a request for the canary."""

    where: str
    """A backend's name, or the public address."""

    address: str
    public: bool
    """Whether this is a public address, the path of a validator, and not a backend's own."""

    reached: bool
    seen: bool
    """Whether the canary's content came back."""

    answer: str
    """What came instead, in words."""

    refused: bool = False
    """Whether the connection was refused or reset, as a validator's would be."""

    no_route: bool = False
    """Whether this machine has no route to the public address: then nothing is known about it."""


@dataclass(frozen=True)
class Judgement:
    """What the results mean for an order."""

    misses: tuple[str, ...]
    """Where a challenge would be lost: each stops a first order."""

    told: tuple[str, ...]
    """What to report although it does not stop an order."""


def look(fleet: Fleet, name: str, webroot: Path) -> list[Sighting]:
    """Put a canary into the webroot, request it everywhere under a name, and remove it."""
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
    text = f"HTTP {answer.status}"
    if not seen and answer.status == 200:
        text = f"something else ({' '.join(body.split())[:60]!r})"
    return Sighting(where, address, public, reached=True, seen=seen, answer=text)


def _missed(where: str, address: str, public: bool, error: Exception) -> Sighting:
    if not isinstance(error, OSError):
        text = f"something other than HTTP ({' '.join(str(error).split())[:60]!r})"
        return Sighting(where, address, public, reached=True, seen=False, answer=text)
    refused = isinstance(error, ConnectionError)
    has_route = refused or _has_route(address)
    answer = getattr(error, "strerror", "") or str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError):
        answer = f"it refuses connections on port {HTTP_PORT}"
    if not has_route:
        answer = "this machine has no route to it"
    no_route = not has_route or (public and error.errno in NO_ROUTE)
    return Sighting(
        where, address, public,
        reached=False, seen=False, answer=answer, refused=refused, no_route=no_route,
    )  # fmt: skip


def _has_route(address: str) -> bool:
    """Return whether this machine has a route to an address; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, HTTP_PORT))
    except OSError:
        return False
    return True


def hidden(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Return the public addresses that were not reached, if the balancer is not to blame.

    Either this machine has no route to them, or none of them answers it, as in a network without
    hairpin NAT. The CA may still reach them.
    """
    public = [each for each in sightings if each.public]
    routed = [each for each in public if not each.no_route]
    silent = [each for each in routed if not each.reached and not each.refused]
    away = [each for each in public if each.no_route]
    return away + silent if len(silent) == len(routed) else away


def judge(fleet: Fleet, sightings: Sequence[Sighting]) -> Judgement:
    """Return where a challenge would be lost, and what else to report.

    An unreachable backend gets no traffic from a balancer with health checks, so it is only
    reported. One that answers something else gets its share of validations, so it stops an order.
    So does a balancer that refuses connections: it would refuse the CA's, too.
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
        misses.append(f"{fleet.issuer_name}: no backend serves the challenge folder")
    return Judgement(tuple(misses), tuple(told))


def leads_here(
    sightings: Sequence[Sighting], refusing: Collection[str], *, late: bool
) -> bool | None:
    """Return whether challenges still arrive at this issuer; None: that cannot be determined.

    A promotion would have changed that. All reachable public addresses must confirm it; if the live
    certificate is about to expire (``late``), one is enough. If none can be reached, the replicas
    that refuse the key can speak for this issuer, but not against it: one of them may be hostile.
    """
    public = [each.seen for each in sightings if each.public and each.reached]
    if public:
        return any(public) if late else all(public)
    asked = [each.seen for each in sightings if not each.public and each.where in refusing]
    return True if asked and all(asked) else None

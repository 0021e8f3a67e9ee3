"""A test file where challenge files go, fetched as the CA would, before an order is spent.

It is asked of every backend by its own address, with the name as Host header, and then of each
public address: the way a validator goes. What was seen is judged by `misses`, which is pure.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from certsync.fleet import Fleet
from certsync.webroot import WELL_KNOWN, present

SECONDS = 5.0
"""How long an answer may take, all of it."""

LARGEST = 1024
HTTP_PORT = 80
AT_ONCE = 16


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


@dataclass(frozen=True)
class Judgement:
    """What the sightings mean for an order."""

    misses: tuple[str, ...]
    """Where a challenge would be lost: each stops a first order."""

    told: tuple[str, ...]
    """What a person should know and does not stop an order."""


def look(fleet: Fleet, webroot: Path) -> list[Sighting]:
    """Put a canary into the webroot, ask everybody for it, and take it away."""
    token = f"certsync-canary-{secrets.token_hex(8)}"
    content = secrets.token_hex(32)
    places = [(host.name, host.private_address, False) for host in fleet.backends]
    places += [(address, address, True) for address in fleet.public_addresses]
    with present(webroot, {token: content}), ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(_ask, where, address, public, fleet.lineage, token, content)
            for where, address, public in places
        ]
        return [job.result() for job in jobs]


def _ask(where: str, address: str, public: bool, name: str, token: str, content: str) -> Sighting:
    from http.client import HTTPException

    from certsync import http_get

    place = f"[{address}]" if ":" in address else address
    try:
        answer = http_get.get(
            f"http://{place}:{HTTP_PORT}/{WELL_KNOWN}/{token}",
            http_get.Limits(SECONDS, LARGEST), headers={"Host": name}, directly=True,
        )  # fmt: skip
    except (OSError, ValueError, HTTPException) as error:
        told = str(error) or type(error).__name__
        return Sighting(where, address, public, reached=False, seen=False, answer=told)
    body = answer.body.decode(errors="replace")
    seen = answer.status == 200 and body == content
    told = f"HTTP {answer.status}"
    if not seen and answer.status == 200:
        told = f"something else ({' '.join(body.split())[:60]!r})"
    return Sighting(where, address, public, reached=True, seen=seen, answer=told)


def judge(fleet: Fleet, sightings: Sequence[Sighting]) -> Judgement:
    """Return where a challenge would be lost, and what else to tell.

    A backend that cannot be reached gets no traffic from a balancer that checks its members, so
    it is told; one that answers something else gets its share of validations, and stops.
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
    misses += [
        f"{each.address}: answers {each.answer}"
        for each in public
        if each.reached and not each.seen
    ]
    missed = [each for each in public if not each.reached]
    if len(missed) < len(public):
        misses += [f"{each.address}: not reached: {each.answer}" for each in missed]
    else:
        # A network without hairpin NAT: the CA may get there all the same.
        told += [f"{each.address}: not reached from the issuer: {each.answer}" for each in missed]
    if not any(each.seen for each in backends):
        misses.append(f"{fleet.issuer_name}: no backend shows the challenge folder")
    return Judgement(tuple(misses), tuple(told))


def leads_here(sightings: Sequence[Sighting], refusing: Collection[str]) -> bool:
    """Return whether challenges are still sent to this issuer: a promotion would have changed that.

    The public addresses say so. Where none of them can be reached from here, the replicas that
    refuse the key do.
    """
    public = [each for each in sightings if each.public and each.reached]
    asked = public or [each for each in sightings if each.where in refusing]
    return bool(asked) and all(each.seen for each in asked)

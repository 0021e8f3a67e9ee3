"""Whether what a provider's balancer was told has come into effect, seen from this machine.

No provider tells. DigitalOcean's API has a new member or a new rule at once; its balancer takes a
while, and sends a new member nothing until its own checks were good.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from http.client import HTTPException

from certsync.model.fleet import Fleet
from certsync.model.proof import Unreachable
from certsync.operator.balancer.managed.drive import Clock
from certsync.system import http_get, proving
from certsync.system.handshake import probe

Await = Callable[[Fleet, Clock], None]
SECONDS, PAUSE = 180.0, 2.0
LIMITS = http_get.Limits(5.0, 1024)
PATH = ".well-known/acme-challenge/certsync-arrival"
"""There is no such challenge, so what answers it is a backend: the issuer, with 404."""

NO_BACKEND = range(502, 505)
"""What a balancer says itself while it has no member to ask."""


def await_challenges(fleet: Fleet, clock: Clock) -> None:
    """Wait until plain HTTP arrives by each public address, but no longer than ``SECONDS``.

    If it does not, the issuer finds that out before its order, and says what it has seen.
    """
    _await(fleet, clock, lambda address: http_arrives(address, fleet.name))


def await_tls(fleet: Fleet, clock: Clock) -> None:
    """Wait until TLS arrives by each public address, but no longer than ``SECONDS``.

    If it does not, the status at the end of the run says what was seen.
    """
    _await(fleet, clock, lambda address: _tls_arrives(address, fleet))


def _await(fleet: Fleet, clock: Clock, arrives: Callable[[str], bool]) -> None:
    end = clock.now() + SECONDS
    for address in fleet.public_addresses:
        while not arrives(address) and clock.now() < end:
            clock.sleep(PAUSE)


def http_arrives(address: str, name: str, port: int = 80) -> bool:
    """Return whether a backend answers plain HTTP; True too if this machine cannot tell."""
    place = f"[{address}]" if ":" in address else address
    try:
        answer = http_get.get(
            f"http://{place}:{port}/{PATH}", LIMITS, headers={"Host": name}, directly=True
        )
    except (ConnectionError, TimeoutError):
        return False
    except (OSError, ValueError, HTTPException):
        return True
    return answer.status not in NO_BACKEND


def _tls_arrives(address: str, fleet: Fleet) -> bool:
    now = datetime.now(timezone.utc)
    seen = probe(address, proving.TLS_PORT, fleet.name, fleet.authority.roots, now)
    return not isinstance(seen, Unreachable) or seen.no_route

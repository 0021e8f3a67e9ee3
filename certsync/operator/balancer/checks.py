"""How often a balancer checks its members, by the number of them. Pure."""

from __future__ import annotations

from math import ceil

from certsync.model.fleet import Fleet
from certsync.model.options import OnCertificateFailure

MOST_A_SECOND = 100
"""Checks that a balancer makes in a second; up to half of them are TLS handshakes, none resumed."""

SHORTEST = 2
"""Seconds between two checks of a member in a small fleet."""


def interval(fleet: Fleet) -> int:
    """Return the seconds between two checks of a member, `inter` in haproxy.cfg(5).

    It grows with the number of `server` lines, so that a balancer makes at most ``MOST_A_SECOND``
    checks a second over all pools, in whatever state their members are.
    """
    return max(SHORTEST, ceil(checked(fleet) / MOST_A_SECOND))


def checked(fleet: Fleet) -> int:
    """Return the number of `server` lines with a check in a balancer's haproxy.cfg."""
    members = [fleet.members(each) for each in fleet.lineages]
    refusing = fleet.balancing.on_certificate_failure is OnCertificateFailure.REFUSE
    # Port 443: verified, and unless it is refused, unverified.
    of_tls = sum(map(len, members)) * (1 if refusing else 2)
    # Port 80: challenges and plain HTTP to everybody, and to the members of a smaller pool.
    everybody = len(fleet.backends)
    return of_tls + 2 * everybody + sum(len(each) for each in members if each != fleet.backends)

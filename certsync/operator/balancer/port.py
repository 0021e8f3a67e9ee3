"""What certsync needs of a balancer in order to drive it: one port, implemented by our HAProxy.

`gate.decide` is the same for all: from a balancer's present gate and the proofs it decides what the
balancer should have.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from certsync.operator.balancer.gate import Gate

Change_co = TypeVar("Change_co", covariant=True)


class Balancer(Protocol[Change_co]):
    """A balancer. A change may be a step on a host, or an API call."""

    def read(self) -> Gate:
        """Return its pools and its rule as they are now; also used to verify a change."""
        ...

    def change(self, wanted: Gate) -> Change_co:
        """Return the change to these pools and this rule; empty if it has them."""
        ...

    def drain(self, member: str) -> Change_co:
        """Return the change that gives a member no new connections and keeps its open ones."""
        ...

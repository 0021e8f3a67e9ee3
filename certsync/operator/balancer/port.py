"""What is asked of a balancer for proof to drive it: one port, with our HAProxy behind it.

`gate.decide` is the judge for each of them: from what a balancer has and from what was proven it
says what the balancer should have.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from certsync.operator.balancer.gate import Gate

Change_co = TypeVar("Change_co", covariant=True)


class Balancer(Protocol[Change_co]):
    """A balancer. What a change is depends on how it is made: a step on a host, a call."""

    def read(self) -> Gate:
        """Return its pools and its rule as they are now; after a change too, to see it there."""
        ...

    def change(self, wanted: Gate) -> Change_co:
        """Return what gives it these pools and this rule; nothing, where it has them."""
        ...

    def drain(self, member: str) -> Change_co:
        """Return what sends a member no new connections, and leaves it those that it has."""
        ...

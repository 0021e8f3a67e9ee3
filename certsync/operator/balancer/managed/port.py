"""A provider's balancer as certsync sees it, whoever the provider is, and what drives it.

Only four things are ours: the rule of port 443, the members of its pool, its health check, and
whether it sends the PROXY protocol. A provider's module translates these values and keeps all else
as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

NO_PORT, MIXED_PORTS = 0, -1
"""Where each member has its own port: no member, so none; or members on different ports."""


@dataclass(frozen=True)
class Check:
    """A health check."""

    protocol: str
    """`tcp`, `http` or `https`."""

    port: int
    """NO_PORT in a state: always the port that the rule sends to, there is no choice."""

    path: str = ""
    """For `http` and `https`; empty for `tcp`."""


@dataclass(frozen=True)
class Rule:
    """Port 443: TLS is passed through to this port of each member."""

    port: int
    """In a state also NO_PORT or MIXED_PORTS."""

    proxy: str = ""
    """The PROXY protocol's version that is sent: `v1` or `v2`; empty: none."""

    check: Check | None = None
    """None: the provider's default, or one that it does not tell."""

    odd: tuple[str, ...] = ()
    """In a state: other settings that keep it from passing TLS through to all members alike, in
    words. `SetRule` puts them right."""


@dataclass(frozen=True)
class Member:
    """A machine in the pool."""

    address: str
    """Its private address, by which backends are recognized; empty: the provider does not tell."""

    id: str
    """The provider's own identifier of this member, or of its machine."""

    takes: bool = True
    """Whether it gets new connections; not while it is drained."""

    health: str = ""
    """What the provider thinks of it, in its words, printable; empty: it does not tell."""


@dataclass(frozen=True)
class State:
    """What a balancer has."""

    rule: Rule | None
    """None: port 443 does not listen."""

    members: tuple[Member, ...] = ()
    busy: str = ""
    """What it is doing, if it takes no change right now, in words; empty: it takes changes."""

    objections: tuple[str, ...] = ()
    """What speaks against driving it, in words, until somebody says that it may be taken over."""

    obstacles: tuple[str, ...] = ()
    """What makes it impossible, whatever anybody says: something else drives it, for example."""

    check: Check | None = None
    """The health check of a pool that all ports share; None: there is no such pool."""


@dataclass(frozen=True)
class Admit:
    """Give a machine traffic: a new member, or one that was drained."""

    name: str
    address: str
    port: int = NO_PORT
    """The port of the rule at that moment, for providers where each member has its own."""


@dataclass(frozen=True)
class Drain:
    """Give a member no new connections, and let it keep its open ones."""

    member: Member


@dataclass(frozen=True)
class Remove:
    """Take a member out of the pool."""

    member: Member


@dataclass(frozen=True)
class SetRule:
    """Make port 443's rule this one: its target port, PROXY protocol and check in one call."""

    rule: Rule


@dataclass(frozen=True)
class DropRule:
    """Close port 443."""


@dataclass(frozen=True)
class SetCheck:
    """Make the health check this one while port 443 is closed: port 80's members depend on it."""

    check: Check


Change = Admit | Drain | Remove | SetRule | DropRule | SetCheck


@dataclass(frozen=True)
class Ability:
    """What a provider's balancer can do, by its documentation."""

    shared_pool: bool
    """Whether port 80 has the same members: then a first order needs the issuer alone in it."""

    drains: bool
    """Whether a member can be drained."""

    proxy: tuple[str, ...]
    """The versions of the PROXY protocol that it sends on port 443 alone; empty: it cannot."""

    pool_of_rule: bool = False
    """Whether the pool is a part of the rule: while port 443 is closed, there is none."""

    checks_tls: bool = False
    """Whether its check may be an HTTPS request on port 443; else it is a TCP connection to the
    port that the rule sends to."""

    gap_seconds: int = 0
    """How long new connections may fail while the target port or PROXY protocol changes; 0: not at
    all, as far as is known."""

    unseen_seconds: int = 0
    """How long a member that was removed may still get connections, where nothing tells."""


class Provider(Protocol):
    """One balancer at a provider."""

    @property
    def ability(self) -> Ability:
        """What it can do."""
        ...

    def read(self) -> State:
        """Return what it has now.

        Raises:
            ManagedError: it cannot be read.
        """
        ...

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:
        """Return why some backends cannot be members, by name, by what was read last.

        ``backends`` are private addresses by name. Empty: nothing is known against any of them.
        """
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first of these changes; more of them, if one call can make several.

        It returns once the provider has accepted the call: `read` tells when it is done.

        Raises:
            BusyError: it takes no change right now.
            UncertainError: the call may or may not have been carried out.
            ManagedError: it refuses.
        """
        ...

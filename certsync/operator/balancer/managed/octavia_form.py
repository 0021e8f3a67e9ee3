"""What Octavia tells of a load balancer, and what that means. Pure.

The values are the SDK's resources, with its names of attributes. `octavia` says where the facts are
from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import (
    MIXED_PORTS,
    NO_PORT,
    Ability,
    Check,
    Member,
    Rule,
)
from certsync.system.terminal import harmless

TLS = 443
OURS = "certsync"
"""The tag of listeners and pools that certsync has made."""

PROTOCOLS: Mapping[str, str] = {"": "TCP", "v1": "PROXY", "v2": "PROXYV2"}
"""A pool's protocol, by the version of the PROXY protocol."""

VERSIONS = {protocol: version for version, protocol in PROTOCOLS.items()}
MONITOR: Mapping[str, Any] = {"type": "TCP", "delay": 5, "timeout": 3, "max_retries": 2}
"""A connection to the member's port, every five seconds."""

WITHOUT_PROXY = Ability(shared_pool=False, drains=True, proxy=(), pool_of_rule=True)
"""Of the provider `ovn`, which forwards packets and sends no PROXY header."""

CLUSTER = re.compile(r"kube_service_.+|kubernetes.*", re.IGNORECASE)
"""Names that Kubernetes' cloud controller gives (cloud-provider-openstack, pkg/openstack)."""


@contextmanager
def as_documented() -> Iterator[None]:
    """Report an answer that is not as documented.

    Raises:
        ManagedError: it is not.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManagedError(
            f"Octavia's answer is not as documented: {harmless(repr(error))}"
        ) from None


def rule(listener: Any, pool: Any, members: Sequence[Any], monitor: Any) -> Rule | None:
    """Return the rule of port 443; None: nothing listens there."""
    if listener is None:
        return None
    if pool is None:
        return Rule(NO_PORT, odd=tuple(_odd_listener(listener)))
    ports = {each.protocol_port for each in members}
    port = ports.pop() if len(ports) == 1 else MIXED_PORTS if ports else NO_PORT
    check = None
    if monitor is not None:
        path = harmless(monitor.url_path or "") if monitor.type.startswith("HTTP") else ""
        check = Check(monitor.type.lower(), NO_PORT, path)
    odd = (*_odd_listener(listener), *_odd_pool(pool))
    return Rule(port, VERSIONS.get(pool.protocol, ""), check, odd)


def _odd_listener(listener: Any) -> Iterator[str]:
    if listener.protocol != "TCP":
        yield f"port 443 has protocol {harmless(str(listener.protocol))}: TLS is opened there"
    if not listener.is_admin_state_up:
        yield "port 443's listener is switched off"


def _odd_pool(pool: Any) -> Iterator[str]:
    if pool.protocol not in VERSIONS:
        yield f"port 443's pool has protocol {harmless(str(pool.protocol))}"
    if pool.session_persistence or str(pool.lb_algorithm).startswith("SOURCE_IP"):
        yield "a client stays with one member"


def member(of: Any) -> Member:
    """Return a member; one of weight 0 gets no new connections."""
    takes = bool(of.weight) and bool(of.is_admin_state_up) and not of.backup
    return Member(str(of.address), str(of.id), takes, harmless(str(of.operating_status or "")))


def fits(pool: Any, members: Sequence[Any], wanted: Rule) -> bool:
    """Return whether a pool has a rule's protocol and port: neither can be changed."""
    ports = {each.protocol_port for each in members}
    return pool is not None and pool.protocol == PROTOCOLS[wanted.proxy] and ports <= {wanted.port}


def pool_name(balancer: Any, rule: Rule) -> str:
    """Return the name of our pool for a rule."""
    return f"certsync-{PROTOCOLS[rule.proxy].lower()}-{rule.port}-{str(balancer.id)[:8]}"


def busy(balancer: Any) -> str:
    """Return what a load balancer is doing, if it takes no change right now."""
    status = str(balancer.provisioning_status)
    return f"its status is {harmless(status)}" if status.startswith("PENDING") else ""


def objections(listeners: Sequence[Any]) -> Iterator[str]:
    """Give in words what speaks against driving port 443."""
    for each in listeners:
        if each.protocol == "UDP":
            yield "port 443 has a listener for UDP as well, which certsync does not see to"
        elif each.protocol != "TCP":
            protocol = harmless(str(each.protocol))
            yield f"port 443 has protocol {protocol}: TLS is opened there"


def obstacles(balancer: Any) -> Iterator[str]:
    """Give in words what makes it impossible."""
    if balancer.provisioning_status == "ERROR":
        yield "its status is ERROR, and only your provider can repair it (failover)"
    marks = [balancer.name or "", *(balancer.tags or ())]
    found = [each for each in marks if CLUSTER.fullmatch(each)]
    if found:
        yield f"a Kubernetes cluster drives this load balancer ({harmless(found[0])})"

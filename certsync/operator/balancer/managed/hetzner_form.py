"""What a Hetzner load balancer has, in certsync's words, and back. Nothing is asked here.

Sources: as in `hetzner.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from hcloud.load_balancers import (
    BoundLoadBalancer,
    LoadBalancerHealthCheck,
    LoadBalancerHealthCheckHttp,
    LoadBalancerService,
    LoadBalancerTarget,
)

from certsync.operator.balancer.managed.port import Check, Rule
from certsync.system.terminal import harmless

TLS = 443
PROXY = "v2"
"""What the balancer sends where `proxyprotocol` is on. Which version that is stands nowhere [?];
our backends take both."""

INTERVAL, TIMEOUT, RETRIES = 5, 3, 2
"""The check's seconds and attempts, where there was none before."""

CLUSTER = "hcloud-ccm/service-uid"
"""The label by which Hetzner's cloud controller for Kubernetes knows its load balancers; it deletes
services that it does not know."""


def targets_of(balancer: BoundLoadBalancer) -> list[LoadBalancerTarget]:
    """Return all targets."""
    return list(balancer.targets or ())


def id_of(target: LoadBalancerTarget) -> str:
    """Return what tells a target from all others: the API gives it no identifier."""
    if target.ip:
        return f"ip {target.ip.ip}"
    return f"server {target.server.id}" if target.server else str(target.type)


def health_of(target: LoadBalancerTarget) -> str:
    """Return what the check of port 443 says of a target; empty: nothing yet."""
    found = [each.status for each in target.health_status or () if each.listen_port == TLS]
    return harmless(str(found[0])) if found else ""


def rule_of(service: LoadBalancerService) -> Rule:
    """Return a service as a rule."""
    check, http = service.health_check, service.health_check and service.health_check.http
    found = None
    if check:
        protocol = "tcp" if not http else "https" if http.tls else "http"
        path = harmless(str(http.path or "")) if http else ""
        found = Check(protocol, int(check.port or 0), path)
    proxy = PROXY if service.proxyprotocol else ""
    return Rule(int(service.destination_port or 0), proxy, found, protocol_of(service))


def check_for(rule: Rule, has: LoadBalancerService | None) -> LoadBalancerHealthCheck:
    """Return the check of a rule, with all that it has already: what is left out may be reset."""
    old = has.health_check if has else None
    made = LoadBalancerHealthCheck(
        old.protocol if old else "tcp",
        old.port if old else rule.port,
        old.interval if old else INTERVAL,
        old.timeout if old else TIMEOUT,
        old.retries if old else RETRIES,
        old.http if old else None,
    )
    if rule.check:
        http = made.http or LoadBalancerHealthCheckHttp()
        http.path, http.tls = rule.check.path or "/", rule.check.protocol == "https"
        made.http = None if rule.check.protocol == "tcp" else http
        made.protocol = "http" if made.http else "tcp"
        made.port = rule.check.port or rule.port
    elif has and made.port == has.destination_port:
        # It does not follow the target port by itself (hcloud-cloud-controller-manager#161).
        made.port = rule.port
    return made


def protocol_of(service: LoadBalancerService) -> tuple[str, ...]:
    """Return in words why a service does not pass TLS through; empty: it does."""
    if service.protocol == "tcp":
        return ()
    return (f"port 443 has protocol {harmless(str(service.protocol))}: TLS is opened there",)


def obstacles_of(balancer: BoundLoadBalancer) -> Iterator[str]:
    """Give what makes it impossible to drive this load balancer, in words."""
    labels = balancer.labels or {}
    if CLUSTER in labels:
        owner = harmless(str(labels[CLUSTER]))
        yield f"a Kubernetes cluster drives this load balancer (service {owner})"
    for each in targets_of(balancer):
        if each.label_selector:
            selector = harmless(str(each.label_selector.selector))
            yield f"its targets are chosen by labels ({selector}), not one by one"

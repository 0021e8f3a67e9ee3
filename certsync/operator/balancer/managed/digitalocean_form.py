"""What DigitalOcean tells of a load balancer, and what it takes: its words, and ours. Pure.

`digitalocean` says where the facts are from. All functions raise what Python raises where an
answer is not as documented: `as_documented` turns it into an error for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import Check, Rule
from certsync.system.terminal import harmless

TLS = 443
REGIONAL = "REGIONAL"
OURS = ("forwarding_rules", "health_check", "enable_proxy_protocol", "droplet_ids")
OTHERS = (
    "name", "project_id", "size_unit", "type", "network", "network_stack", "vpc_uuid",
    "subnet_uuid", "sticky_sessions", "redirect_http_to_https", "enable_backend_keepalive",
    "http_idle_timeout_seconds", "disable_lets_encrypt_dns_records", "firewall", "domains",
    "glb_settings", "target_load_balancer_ids", "tls_cipher_policy",
)  # fmt: skip
"""What a PUT takes as a GET tells it. ``subnet_uuid`` is only in the Go client; ``algorithm`` is
ignored."""


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
            f"DigitalOcean's answer is not as documented: {harmless(repr(error))}"
        ) from None


def addresses(droplet: Any) -> list[str]:
    """Return a droplet's private IPv4 addresses."""
    networks = (droplet.get("networks") or {}).get("v4") or ()
    return [str(each["ip_address"]) for each in networks if each["type"] == "private"]


def kind(balancer: Any) -> str:
    """Return a balancer's type; `REGIONAL` is the default."""
    return harmless(str(balancer.get("type") or REGIONAL))


def rule(balancer: Any) -> Rule | None:
    """Return the rule of port 443; None: there is none.

    Where something else listens it has port 0, which is equal to no rule that is wanted.
    """
    rules = _of_tls(balancer)
    if not rules:
        return None
    proxy = "v1" if balancer.get("enable_proxy_protocol") else ""
    if len(rules) > 1 or not _passes(rules[0]):
        return Rule(0, proxy)
    return Rule(int(rules[0]["target_port"]), proxy, check(balancer))


def check(balancer: Any) -> Check | None:
    """Return the health check of all rules; None: it is not told."""
    told = balancer.get("health_check")
    if not told:
        return None
    path = "" if told["protocol"] == "tcp" else str(told.get("path") or "/")
    return Check(str(told["protocol"]), int(told["port"]), path)


def objections(balancer: Any, ours: str) -> Iterator[str]:
    """Give in words what speaks against driving a balancer. ``ours``: the tag that is our own."""
    if balancer["status"] == "errored":
        yield "its status is errored"
    if kind(balancer) != REGIONAL:
        # REGIONAL_NETWORK passes TCP and UDP alone and keeps the clients' addresses, so backends
        # would have to let everybody in. GLOBAL ends TLS.
        yield f"its type is {kind(balancer)}, and certsync drives regional ones only"
    if balancer.get("redirect_http_to_https"):
        yield "it redirects HTTP to HTTPS, and so the CA's challenges to port 443"
    if (balancer.get("sticky_sessions") or {}).get("type", "none") != "none":
        yield "it has sticky sessions, and a look through it sees one backend only"
    if balancer.get("enable_proxy_protocol"):
        yield "it sends the PROXY protocol on every port, 80 too"
    tag = balancer.get("tag")
    if tag and tag != ours:
        yield f"its members are the droplets with the tag {harmless(tag)}, not chosen by name"
    if _kubernetes(balancer):
        yield "a Kubernetes cluster made it, and will set it back"
    yield from _strange_rules(balancer)


def _kubernetes(balancer: Any) -> bool:
    """Return whether DigitalOcean's cloud controller has made it, by the names that it gives.

    <https://github.com/digitalocean/digitalocean-cloud-controller-manager>: `k8s:` and the
    cluster's id, and for the name the service's id, as Kubernetes shortens it.
    """
    names = [*(balancer.get("tags") or ()), balancer.get("tag") or "", balancer["name"]]
    marked = any(each.startswith("k8s:") for each in names)
    return marked or bool(re.fullmatch("a[0-9a-f]{31}", balancer["name"]))


def _strange_rules(balancer: Any) -> Iterator[str]:
    for each in _of_tls(balancer):
        target = harmless(f"{each['target_protocol']} {each['target_port']}")
        if not _passes(each):
            entry = harmless(each["entry_protocol"])
            yield f"port 443 has a rule that is not ours: {entry} to {target}"
        elif each["target_port"] != TLS:
            yield f"port 443 goes to another port: {target}"


def _of_tls(balancer: Any) -> list[Any]:
    return [each for each in balancer["forwarding_rules"] if each["entry_port"] == TLS]


def _passes(one: Any) -> bool:
    """Return whether TLS goes through a rule unopened, as HTTPS."""
    protocols = (one["entry_protocol"], one["target_protocol"])
    opened = not one.get("tls_passthrough") or one.get("certificate_id")
    return protocols == ("https", "https") and not opened


def settings(balancer: Any) -> dict[str, Any]:
    """Return all of a balancer, as a PUT takes it."""
    # One of two: the number of nodes, or their old size.
    names = (*OURS, *OTHERS) if balancer.get("size_unit") else (*OURS, *OTHERS, "size")
    body: dict[str, Any] = _kept({name: balancer.get(name) for name in names})
    body["region"] = balancer["region"]["slug"]
    # Ids or a tag, never both: https://github.com/digitalocean/godo/blob/main/load_balancers.go
    body.pop("droplet_ids", None)
    if balancer.get("tag"):
        return {**body, "tag": balancer["tag"]}
    return {**body, "droplet_ids": sorted(balancer.get("droplet_ids") or ())}


def everything(balancer: Any) -> dict[str, Any]:
    """Return all settings of a balancer, and its droplets even if they come from a tag."""
    return {**settings(balancer), "droplet_ids": sorted(balancer.get("droplet_ids") or ())}


def _kept(value: Any) -> Any:
    """Return what a GET told without what is empty, as the Go client does: the default is meant."""
    if isinstance(value, dict):
        return {
            name: _kept(each)
            for name, each in value.items()
            if each is not None and each != "" and (each != 0 or each is False)
        }
    return [_kept(each) for each in value] if isinstance(value, list) else value


def with_rule(balancer: Any, wanted: Rule) -> dict[str, Any]:
    """Return the PUT that makes port 443's rule this one, and keeps all else.

    Raises:
        ManagedError: the rule cannot be had there.
    """
    if wanted.proxy:
        raise ManagedError(
            "DigitalOcean sends the PROXY protocol on all ports or none, and port 80 takes none"
        )
    body = settings(balancer)
    ours = {
        "entry_protocol": "https",
        "entry_port": TLS,
        "target_protocol": "https",
        "target_port": wanted.port,
        "tls_passthrough": True,
    }
    others = [each for each in body["forwarding_rules"] if each["entry_port"] != TLS]
    body |= {"forwarding_rules": [*others, ours], "enable_proxy_protocol": False}
    return _checked(body, wanted.check) if wanted.check else body


def with_check(balancer: Any, wanted: Check) -> dict[str, Any]:
    """Return the PUT that makes the health check this one, and keeps all else."""
    return _checked(settings(balancer), wanted)


def _checked(body: dict[str, Any], wanted: Check) -> dict[str, Any]:
    ours = {"protocol": wanted.protocol, "port": wanted.port, "path": wanted.path or "/"}
    return {**body, "health_check": {**body.get("health_check", {}), **ours}}


def without_rule(balancer: Any) -> dict[str, Any]:
    """Return what takes port 443's rules out.

    Raises:
        ManagedError: no rule would be left, and a load balancer has one at least.
    """
    gone = _of_tls(balancer)
    if len(gone) == len(balancer["forwarding_rules"]):
        raise ManagedError(
            "port 443 has the load balancer's only rule, and it cannot be without one",
            "add the rule for port 80 at DigitalOcean: HTTP, to port 80",
        )
    return {"forwarding_rules": _kept(gone)}


def lost(sent: Mapping[str, Any], answer: Any) -> list[str]:
    """Return the names of settings that are not as a PUT has sent them, but for ours."""
    told = settings(answer)
    return [each for each in OTHERS if each in sent and told.get(each) != sent[each]]

"""A Linode NodeBalancer as a balancer of certsync: its config of port 443, and that one's nodes.

Source: the API's own document (linode/linode-api-docs, 4.189.0). What only prose and issues tell
has its source beside it. Nothing here was tried with a real NodeBalancer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from certsync.operator.balancer.managed.errors import ManagedError, NoSuchError, UnansweredError
from certsync.operator.balancer.managed.http import Api, base_of
from certsync.operator.balancer.managed.port import (
    MIXED_PORTS,
    NO_PORT,
    Ability,
    Admit,
    Change,
    Check,
    Drain,
    DropRule,
    Member,
    Remove,
    Rule,
    SetRule,
    State,
)
from certsync.system.terminal import harmless

BASE, VARIABLE = "https://api.linode.com/v4", "LINODE_TOKEN"
RIGHTS = "nodebalancers:read_write, of a restricted user who may change this NodeBalancer only"
TLS = 443
PAGE = 500
"""The most that one page has: so that all of it is of one moment."""

LONGEST_LABEL, SHORTEST_LABEL = 32, 3

OURS = {"protocol": "tcp", "stickiness": "none", "check": "connection", "check_interval": 5,
        "check_timeout": 3, "check_attempts": 2}  # fmt: skip
"""What port 443's config has, besides the PROXY protocol. Its check connects to the port that it
sends to; a check by HTTP would not speak TLS."""

KEPT = ("algorithm", "check_interval", "check_timeout", "check_attempts", "check_passive")
"""What a config keeps where it is one of ours already."""

CLUSTER = re.compile(r"ccm-[0-9a-f]{12}|kubernetes.*|lke[0-9-].*", re.IGNORECASE)
"""Labels and tags that Kubernetes' cloud controller gives (linode-cloud-controller-manager,
GetLoadBalancerName and GetLoadBalancerTags): it would undo what we do."""


def api(token: str, base: str = BASE) -> Api:
    """Return the client for a token."""
    return Api("Linode", base, token, VARIABLE, RIGHTS)


def connect(balancer: str, environment: Mapping[str, str]) -> NodeBalancer:
    """Return a NodeBalancer by its id.

    ``environment`` has the token, and LINODE_URL if the API is somewhere else.

    Raises:
        ManagedError: there is no token, or the id is no number.
    """
    if not balancer.isdecimal():
        raise ManagedError(
            f"a NodeBalancer's id is a number, not {harmless(balancer)}",
            "see balancer.load_balancer in the fleet file; Linode's Cloud Manager shows the id",
        )
    base = base_of("LINODE_URL", BASE, environment)
    return NodeBalancer(api(environment.get(VARIABLE, ""), base), int(balancer))


class NodeBalancer:
    """One NodeBalancer."""

    # The PROXY protocol is set for each port, and a rebuild changes it together with the nodes'
    # ports. Whether connections fail meanwhile is documented nowhere.
    ability = Ability(
        shared_pool=False,
        drains=True,
        proxy=("v1", "v2"),
        pool_of_rule=True,
        gap_seconds=0,
        checks_tls=False,
    )

    def __init__(self, client: Api, number: int) -> None:
        """``number``: its id."""
        self._api = client
        self._path = f"/nodebalancers/{number}"
        self._config: Mapping[str, Any] | None = None
        self._nodes: list[Mapping[str, Any]] = []

    def read(self) -> State:
        """Return what port 443 has."""
        try:
            balancer = self._api.get(self._path)
            configs = [each for each in self._all(f"{self._path}/configs") if each["port"] == TLS]
            # UDP may have the same port with a config of its own, which is never ours.
            self._config = next((each for each in configs if each["protocol"] != "udp"), None)
            self._nodes = self._nodes_now() if self._config else []
            return State(
                _rule(self._config, self._nodes) if self._config else None,
                tuple(_member(each) for each in self._nodes),
                objections=tuple(_protocols(configs)),
                obstacles=(*_owners(balancer), *_in_a_vpc(self._nodes)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManagedError(
                f"Linode's API answers in a form that this version does not know ({error!r})",
                "is there a newer certsync?",
            ) from None

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  # the port's
        """Return nothing: only the API knows which addresses it takes, when one is used."""
        return {}

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first change, to what was read last."""
        change = changes[0]
        if isinstance(change, SetRule):
            self._set(change.rule)
        elif isinstance(change, DropRule):
            self._api.send("DELETE", self._place())
        elif isinstance(change, Admit):
            self._admit(change)
        elif isinstance(change, Drain):
            node = self._node(change.member.id)
            self._api.send("PUT", self._place(change.member.id), _sent(node, mode="drain"))
        elif isinstance(change, Remove):
            self._api.send("DELETE", self._place(change.member.id))

    def _all(self, path: str) -> Iterator[Mapping[str, Any]]:
        page = pages = 1
        while page <= pages:
            found = self._api.get(path, page=page, page_size=PAGE)
            yield from found["data"]
            page, pages = page + 1, int(found["pages"])

    def _nodes_now(self) -> list[Mapping[str, Any]]:
        try:
            return list(self._all(f"{self._place()}/nodes"))
        except NoSuchError:
            raise UnansweredError(
                "somebody has just removed the NodeBalancer's config of port 443",
                "run the same command again",
            ) from None

    def _place(self, node: str = "") -> str:
        """Return the path of port 443's config, or of a node of it."""
        if self._config is None:
            raise ManagedError("port 443 of the NodeBalancer has no config", "run it again")
        place = f"{self._path}/configs/{self._config['id']}"
        return f"{place}/nodes/{node}" if node else place

    def _set(self, rule: Rule) -> None:
        if rule.check and rule.check.protocol != "tcp":
            raise ManagedError("a NodeBalancer checks TLS by connections only", "check by tcp")
        body = {**OURS, "port": TLS, "proxy_protocol": rule.proxy or "none"}
        if self._config is None:
            # Nodes in this call would be ignored (linode-cloud-controller-manager#51).
            self._api.send("POST", f"{self._path}/configs", {**body, "algorithm": "roundrobin"})
            return
        body = {**body, **_kept(self._config)}
        if not self._nodes:
            self._api.send("PUT", self._place(), body)
            return
        # Each node with its id: a node without it is made anew, the old one is deleted, and the
        # NodeBalancer reloads (linode-cloud-controller-manager#197). One that is not named is
        # deleted.
        nodes = [
            {"id": each["id"], **_sent(each, address=_joined(_address(each)[0], rule.port))}
            for each in self._nodes
        ]
        self._api.send("POST", f"{self._place()}/rebuild", {**body, "nodes": nodes})

    def _admit(self, change: Admit) -> None:
        new = {"address": _joined(change.address, change.port), "mode": "accept"}
        for each in self._nodes:
            if _address(each)[0] == change.address:
                self._api.send("PUT", self._place(str(each["id"])), {**_sent(each), **new})
                return
        body = {"label": label(change.name), **new}
        self._api.send("POST", f"{self._place()}/nodes", body)

    def _node(self, key: str) -> Mapping[str, Any]:
        return next(each for each in self._nodes if str(each["id"]) == key)


def label(name: str) -> str:
    """Return a node's label for a backend: at most 32 of the characters that the API takes."""
    text = re.sub(r"[^a-zA-Z0-9_.-]", "-", name).ljust(SHORTEST_LABEL, "-")
    if len(text) <= LONGEST_LABEL:
        return text
    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{text[: LONGEST_LABEL - len(digest) - 1]}-{digest}"


def _rule(config: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Rule:
    ports = {_address(each)[1] for each in nodes}
    port = ports.pop() if len(ports) == 1 else MIXED_PORTS if ports else NO_PORT
    proxy = config["proxy_protocol"]
    check = {
        "none": None,
        "connection": Check("tcp", NO_PORT),
    }.get(config["check"], Check("http", NO_PORT, config.get("check_path") or ""))
    odd = [*_protocols([config])]
    if config["stickiness"] != "none":
        odd.append(f"a client stays with one node (stickiness {config['stickiness']})")
    if config["algorithm"] == "source":
        odd.append("a client stays with one node (algorithm source)")
    return Rule(port, "" if proxy == "none" else proxy, check, tuple(map(harmless, odd)))


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config keeps of its own when it becomes, or stays, ours."""
    kept = {"algorithm": "roundrobin"}
    if config["protocol"] == "tcp" and config["check"] == "connection":
        kept = {each: config[each] for each in KEPT if config.get(each) is not None}
    if kept.get("algorithm") == "source":
        kept["algorithm"] = "roundrobin"
    return kept


def _member(node: Mapping[str, Any]) -> Member:
    takes = node["mode"] == "accept"
    return Member(_address(node)[0], str(node["id"]), takes, harmless(str(node["status"])))


def _sent(node: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a node as it is sent: what may be written of it, with changes."""
    return {**{each: node[each] for each in ("label", "address", "weight", "mode")}, **changes}


def _address(node: Mapping[str, Any]) -> tuple[str, int]:
    """Return a node's address and port; they are one text, as in `[2001:db8::1]:443`."""
    host, _, port = node["address"].rpartition(":")
    return str(ip_address(host.strip("[]"))), int(port)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _protocols(configs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in configs:
        if each["protocol"] == "udp":
            yield "port 443 has a config for UDP as well, which certsync does not see to"
        elif each["protocol"] != "tcp":
            yield f"port 443 has protocol {harmless(str(each['protocol']))}: TLS is opened there"


def _owners(balancer: Mapping[str, Any]) -> Iterator[str]:
    cluster = balancer.get("lke_cluster") or {}
    marks = [balancer.get("label") or "", *(balancer.get("tags") or ())]
    found = [each for each in marks if CLUSTER.fullmatch(each)]
    if cluster or found:
        name = harmless(str(found[0] if found else cluster.get("label", "")))
        yield f"a Kubernetes cluster drives this NodeBalancer ({name})"


def _in_a_vpc(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if any(each.get("vpc_config_id") for each in nodes):
        yield "it has nodes in a VPC, which certsync cannot keep yet"

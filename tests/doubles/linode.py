"""Linode's API for NodeBalancers, as far as certsync uses it.

Its form is in schemas/linode.json, by linode/linode-api-docs 4.189.0. What it does that the
document does not say has its source here; [?] is what nobody documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.doubles.contract import Answer, Ask, Double, Refusal, schema_of

DEFAULTS = {
    "port": 80, "protocol": "http", "algorithm": "roundrobin", "stickiness": "none",
    "check": "none", "check_interval": 5, "check_timeout": 3, "check_attempts": 3,
    "check_passive": True, "check_path": "", "check_body": "", "proxy_protocol": "none",
    "cipher_suite": "recommended",
}  # fmt: skip
"""By the document, but for check_interval (31 there, 5 in later versions) and check_timeout, 30
there, which an interval of 5 would forbid."""

PAGES_A_MINUTE, OTHERS_A_MINUTE = 200, 1600
"""Calls a minute: of pages, and all others (techdocs.akamai.com, "Rate limits")."""


class Linode(Double):
    """An account with NodeBalancers."""

    schema = schema_of("linode")

    def __init__(self, now: Callable[[], float], token: str = "linode-token-1f0c") -> None:
        super().__init__(token, now)
        self.state: dict[str, Any] = {"balancers": {}, "configs": {}, "nodes": {}, "reloads": 0}
        self._last = 100
        self._times: dict[bool, list[float]] = {True: [], False: []}

    def operations(self) -> Mapping[str, Callable[[Ask], Answer]]:
        of_balancer = "/v4/nodebalancers/{balancer}"
        configs = f"{of_balancer}/configs"
        config, nodes = f"{configs}/{{config}}", f"{configs}/{{config}}/nodes"
        found: dict[str, Callable[[Ask], Answer]] = {
            f"GET {of_balancer}": lambda ask: Answer(200, self._balancer(ask)),
            f"GET {configs}": self._list_configs,
            f"POST {configs}": self._create_config,
            f"PUT {config}": self._change_config,
            f"DELETE {config}": self._delete_config,
            f"POST {config}/rebuild": self._rebuild,
            f"GET {nodes}": self._list_nodes,
            f"POST {nodes}": self._create_node,
            f"PUT {nodes}/{{node}}": self._change_node,
            f"DELETE {nodes}/{{node}}": self._delete_node,
        }
        return {name: self._limited(name, each) for name, each in found.items()}

    def error(self, status: int, words: str) -> Answer:
        headers = {"Retry-After": "60"} if status == 429 else {}
        return Answer(status, {"errors": [{"reason": words}]}, headers)

    # What a test sets up.

    def balancer(self, **settings: Any) -> int:
        """Make a NodeBalancer without configs, and return its id."""
        number = self._new()
        self.state["balancers"][str(number)] = {
            "id": number, "label": f"balancer-{number}", "region": "eu-west", "tags": [],
            "hostname": "203-0-113-7.example", "ipv4": "203.0.113.7", "ipv6": None,
            "client_conn_throttle": 0, **settings,
        }  # fmt: skip
        return number

    def config(self, balancer: int, **settings: Any) -> int:
        """Make a config, and return its id."""
        number = self._new()
        self.state["configs"][str(number)] = {
            **DEFAULTS, "id": number, "nodebalancer_id": balancer, "ssl_cert": None,
            "ssl_key": None, "ssl_commonname": "", "ssl_fingerprint": "", **settings,
        }  # fmt: skip
        return number

    def node(self, config: int, address: str, **settings: Any) -> int:
        """Make a node, and return its id."""
        number = self._new()
        self.state["nodes"][str(number)] = {
            "id": number, "config_id": config, "label": f"node-{number}", "address": address,
            "nodebalancer_id": self.state["configs"][str(config)]["nodebalancer_id"],
            "mode": "accept", "weight": 100, "status": "unknown", **settings,
        }  # fmt: skip
        return number

    def nodes_of(self, config: int) -> list[dict[str, Any]]:
        """Return a config's nodes."""
        return [each for each in self.state["nodes"].values() if each["config_id"] == config]

    def _unique(self, config: int, nodes: Iterable[Mapping[str, Any]]) -> None:
        # Whether two nodes of a config may have one address: [?], so they may not.
        addresses = [each["address"] for each in nodes]
        if len(set(addresses)) < len(addresses):
            raise Refusal(400, f"config {config} has two nodes with one address")

    # What the API does.

    def _limited(self, name: str, answer: Callable[[Ask], Answer]) -> Callable[[Ask], Answer]:
        pages = name.startswith("GET") and name.endswith(("/configs", "/nodes"))

        def limited(ask: Ask) -> Answer:
            times = self._times[pages]
            times[:] = [each for each in times if each > self.now() - 60]
            if len(times) >= (PAGES_A_MINUTE if pages else OTHERS_A_MINUTE):
                raise Refusal(429, "Too many requests")
            times.append(self.now())
            return answer(ask)

        return limited

    def _balancer(self, ask: Ask) -> dict[str, Any]:
        return self._found("balancers", ask.parts["balancer"])

    def _config(self, ask: Ask) -> dict[str, Any]:
        found = self._found("configs", ask.parts["config"])
        if found["nodebalancer_id"] != self._balancer(ask)["id"]:
            raise Refusal(404, "Not found")
        return found

    def _node(self, ask: Ask) -> dict[str, Any]:
        found = self._found("nodes", ask.parts["node"])
        if found["config_id"] != self._config(ask)["id"]:
            raise Refusal(404, "Not found")
        return found

    def _found(self, kind: str, number: str) -> dict[str, Any]:
        if number not in self.state[kind]:
            raise Refusal(404, "Not found")
        found: dict[str, Any] = self.state[kind][number]
        return found

    def _new(self) -> int:
        self._last += 1
        return self._last

    def _page(self, ask: Ask, everything: list[Any]) -> Answer:
        size, page = int(ask.query.get("page_size", 100)), int(ask.query.get("page", 1))
        pages = max(1, -(-len(everything) // size))
        if page > pages:
            raise Refusal(404, "Not found")  # [?]
        data = everything[(page - 1) * size : page * size]
        return Answer(200, {"data": data, "page": page, "pages": pages, "results": len(everything)})

    def _told(self, config: dict[str, Any]) -> dict[str, Any]:
        states = [each["status"] for each in self.nodes_of(config["id"])]
        counts = {"up": states.count("UP"), "down": states.count("DOWN")}
        hidden = "<REDACTED>"  # linode-api-docs, NodeBalancerConfig: ssl_cert, ssl_key
        secret = {name: config[name] and hidden for name in ("ssl_cert", "ssl_key")}
        return {**config, **secret, "nodes_status": counts}

    def _list_configs(self, ask: Ask) -> Answer:
        number = self._balancer(ask)["id"]
        configs = self.state["configs"].values()
        return self._page(
            ask, [self._told(each) for each in configs if each["nodebalancer_id"] == number]
        )

    def _create_config(self, ask: Ask) -> Answer:
        # There are no nodes in it: they come by calls of their own
        # (linode-cloud-controller-manager#51).
        number = self.config(self._balancer(ask)["id"])
        made = self.state["configs"].pop(str(number))
        made.update(ask.body)
        self._right(made)
        self.state["configs"][str(number)] = made
        return Answer(200, self._told(made))

    def _change_config(self, ask: Ask) -> Answer:
        config = self._config(ask)
        self._right({**config, **ask.body})
        config.update(ask.body)
        return Answer(200, self._told(config))

    def _right(self, config: Mapping[str, Any]) -> None:
        # linode-api-docs, prose of NodeBalancerConfig: both of these.
        if config["proxy_protocol"] != "none" and config["protocol"] != "tcp":
            raise Refusal(400, "proxy_protocol is for protocol tcp only")
        if config["check_interval"] <= config["check_timeout"]:
            raise Refusal(400, "check_interval must be greater than check_timeout")
        # "provided that the port is not already in use by another config" (NodeBalancer reference
        # guide). UDP beside TCP on one port: [?]
        for each in self.state["configs"].values():
            same = [(each[n] == config[n]) for n in ("nodebalancer_id", "port")]
            either = "udp" in {each["protocol"], config["protocol"]}
            if all(same) and each["id"] != config["id"] and not either:
                raise Refusal(400, "Port is already in use by another config")

    def _delete_config(self, ask: Ask) -> Answer:
        config = self._config(ask)
        for each in self.nodes_of(config["id"]):
            del self.state["nodes"][str(each["id"])]
        del self.state["configs"][str(config["id"])]
        return Answer(200, {})

    def _rebuild(self, ask: Ask) -> Answer:
        config = self._config(ask)
        settings = {name: each for name, each in ask.body.items() if name != "nodes"}
        # Whether what is not named is kept or becomes the default: [?], so the worse of them.
        changed = {**config, **DEFAULTS, **settings}
        self._right(changed)
        before = {each["id"]: each for each in self.nodes_of(config["id"])}
        named = [each["id"] for each in ask.body["nodes"] if "id" in each]
        if not set(named) <= set(before):
            raise Refusal(400, "no such node")  # [?]
        self._unique(config["id"], ask.body["nodes"])
        config.update(changed)
        # Nodes without an id are new, those that are not named are deleted, and with either the
        # NodeBalancer reloads (linode-cloud-controller-manager#197, #192).
        for number in set(before) - set(named):
            del self.state["nodes"][str(number)]
        for each in ask.body["nodes"]:
            number = each["id"] if "id" in each else self.node(config["id"], each["address"])
            self.state["nodes"][str(number)].update(each)
        self.state["reloads"] += set(before) != {each["id"] for each in self.nodes_of(config["id"])}
        return Answer(200, self._told(config))

    def _list_nodes(self, ask: Ask) -> Answer:
        return self._page(ask, self.nodes_of(self._config(ask)["id"]))

    def _create_node(self, ask: Ask) -> Answer:
        config = self._config(ask)["id"]
        self._unique(config, [*self.nodes_of(config), ask.body])
        number = self.node(config, **ask.body)
        return Answer(200, self.state["nodes"][str(number)])

    def _change_node(self, ask: Ask) -> Answer:
        node = self._node(ask)
        others = [each for each in self.nodes_of(node["config_id"]) if each is not node]
        self._unique(node["config_id"], [*others, {**node, **ask.body}])
        node.update(ask.body)
        return Answer(200, node)

    def _delete_node(self, ask: Ask) -> Answer:
        del self.state["nodes"][str(self._node(ask)["id"])]
        return Answer(200, {})

"""DigitalOcean's load balancers and droplets, as far as certsync uses them.

`schemas/digitalocean.json` has the form. Here is what only prose and issues tell, each with its
source; "not documented" means that it is our own guess, and the stricter one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from tests.doubles.contract import Answer, Ask, Double, Refusal, schema_of

BALANCER = "4de7ac8b-495b-4884-9a69-1050c6793cd6"
VPC = "c33931f2-a26a-4e61-b85c-4e95a2ec431b"
BUSY = "Load Balancer can't be updated while it processes previous actions"
"""<https://github.com/digitalocean/openapi/issues/1173>"""

DEFAULTS: Mapping[str, Any] = {
    "name": "", "project_id": "", "size_unit": 1, "tag": "", "droplet_ids": [],
    "health_check": {
        "protocol": "http", "port": 80, "path": "/", "check_interval_seconds": 10,
        "response_timeout_seconds": 5, "unhealthy_threshold": 5, "healthy_threshold": 3,
    },
    "sticky_sessions": {"type": "none"}, "redirect_http_to_https": False,
    "enable_proxy_protocol": False, "enable_backend_keepalive": False,
    "http_idle_timeout_seconds": 60, "vpc_uuid": "the region's default VPC",
    "disable_lets_encrypt_dns_records": False, "firewall": {"allow": [], "deny": []},
    "network": "EXTERNAL", "network_stack": "IPV4", "type": "REGIONAL",
    "tls_cipher_policy": "DEFAULT",
}  # fmt: skip
"""The OpenAPI document's defaults."""

HTTP = {
    "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 80,
}  # fmt: skip

IDS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "too_many_requests"}


def balancer(**changes: Any) -> dict[str, Any]:
    """Return a load balancer with no default left, so that a test sees what a PUT resets."""
    made = {
        **deepcopy(dict(DEFAULTS)),
        "id": BALANCER, "status": "active", "name": "shop", "project_id": "9cc10173-e9ea",
        "size_unit": 3, "region": "fra1", "vpc_uuid": VPC, "tags": [],
        "forwarding_rules": [
            dict(HTTP),
            {"entry_protocol": "tcp", "entry_port": 25, "target_protocol": "tcp",
             "target_port": 2525},
        ],
        "health_check": {
            "protocol": "http", "port": 80, "path": "/up", "check_interval_seconds": 7,
            "response_timeout_seconds": 4, "unhealthy_threshold": 2, "healthy_threshold": 9,
            "proxy_protocol": False,
        },
        "enable_backend_keepalive": True, "http_idle_timeout_seconds": 120,
        "disable_lets_encrypt_dns_records": True,
        "firewall": {"allow": ["cidr:192.0.2.0/24"], "deny": ["ip:203.0.113.9"]},
        "network_stack": "DUALSTACK", "tls_cipher_policy": "STRONG",
    }  # fmt: skip
    return {**made, **changes}


def droplet(key: int, address: str, **changes: Any) -> dict[str, Any]:
    """Return a droplet with this private address."""
    return {
        "id": key, "name": f"web-{key}", "status": "active", "tags": [], "vpc_uuid": VPC,
        "region": {"slug": "fra1"},
        "networks": {"v4": [
            {"ip_address": f"203.0.113.{key % 250}", "type": "public"},
            {"ip_address": address, "type": "private"},
        ]},
        **changes,
    }  # fmt: skip


class DigitalOcean(Double):
    """One team's load balancer and droplets. ``state["balancer"]`` is as a PUT has it."""

    schema = schema_of("digitalocean")
    state: dict[str, Any]

    def __init__(self, token: str, now: Callable[[], float], takes: float = 0) -> None:
        super().__init__(token, now)
        self.takes = takes
        """How many seconds a change is in progress."""

        self.busy_until = 0.0
        self.active_at = 0.0
        """When a new load balancer is active."""

        self.state = {"balancer": balancer(), "droplets": [], "tags": []}

    def operations(self) -> Mapping[str, Callable[[Ask], Answer]]:
        """Return what answers each operation; see `Double`."""
        one = "/v2/load_balancers/{lb_id}"
        return {
            f"GET {one}": self._show,
            f"PUT {one}": self._update,
            f"POST {one}/droplets": self._add,
            f"DELETE {one}/droplets": self._remove,
            f"DELETE {one}/forwarding_rules": self._drop_rules,
            "GET /v2/droplets": self._list,
            "POST /v2/tags": self._make_tag,
            "POST /v2/tags/{tag_id}/resources": self._tag,
            "DELETE /v2/tags/{tag_id}/resources": self._untag,
        }

    def error(self, status: int, words: str) -> Answer:
        """Return an error in DigitalOcean's form; see `Double`."""
        name = "server_error" if status >= 500 else IDS.get(status, "unprocessable_entity")
        return Answer(status, {"id": name, "message": words, "request_id": "4d9d8375"})

    def _balancer(self, ask: Ask) -> dict[str, Any]:
        found: dict[str, Any] = self.state["balancer"]
        if ask.parts["lb_id"] != found["id"]:
            raise Refusal(404, "The resource you were accessing could not be found.")
        return found

    def _changeable(self, ask: Ask) -> dict[str, Any]:
        found = self._balancer(ask)
        # https://github.com/digitalocean/openapi/issues/1173; while it is new: not documented.
        if self.now() < max(self.busy_until, self.active_at):
            raise Refusal(403, BUSY)
        return found

    def _changed(self) -> None:
        self.busy_until = self.now() + self.takes

    def _show(self, ask: Ask) -> Answer:
        return Answer(200, {"load_balancer": self._told(self._balancer(ask))})

    def _told(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Return it as a GET tells it: not what a PUT takes (tried with the OpenAPI document)."""
        told = deepcopy(dict(found))
        region = {"slug": found["region"], "name": "Frankfurt 1", "features": [], "sizes": []}
        told["region"] = {**region, "available": True}
        # Names with nothing in them, and both ids and tag: godo's tests have such answers.
        empty = {"certificate_id": "", "tls_passthrough": False}
        told["forwarding_rules"] = [{**empty, **each} for each in found["forwarding_rules"]]
        sticky = {"cookie_name": "", "cookie_ttl_seconds": 0}
        told["sticky_sessions"] = {**sticky, **found["sticky_sessions"]}
        if tag := found["tag"]:
            tagged = [each["id"] for each in self.state["droplets"] if tag in each["tags"]]
            told["droplet_ids"] = tagged
        told |= {"ip": "198.51.100.7", "algorithm": "round_robin"}
        if self.now() < self.active_at:
            told["status"] = "new"
        return told

    def _update(self, ask: Ask) -> Answer:
        found = self._changeable(ask)
        # Create-only, and what a PUT says to another value is not documented.
        for name in ("network", "network_stack", "type"):
            if ask.body.get(name, DEFAULTS[name]) != found[name]:
                raise Refusal(422, f"{name} cannot be changed")
        if ask.body["region"] != found["region"]:
            raise Refusal(422, "region cannot be changed")
        for rule in ask.body["forwarding_rules"]:
            _check_rule(rule)
        self._check_droplets(found, ask.body.get("droplet_ids", []))
        # "SizeSlug is mutually exclusive with SizeUnit" (godo).
        if {"size", "size_unit"} <= set(ask.body):
            raise Refusal(422, "only one of size and size_unit")
        kept = {name: found[name] for name in ("id", "status", "tags")}
        # "Any attribute that is not provided will be reset to its default value."
        made = {**deepcopy(dict(DEFAULTS)), **ask.body, **kept}
        made["forwarding_rules"] = [_plain(each) for each in ask.body["forwarding_rules"]]
        if "size" in ask.body:
            del made["size_unit"]
        self.state["balancer"] = made
        self._changed()
        return Answer(200, {"load_balancer": self._told(self.state["balancer"])})

    def _check_droplets(self, found: Mapping[str, Any], ids: list[int]) -> None:
        # https://docs.digitalocean.com/products/networking/load-balancers/details/limits/
        if len(ids) > 10:
            raise Refusal(422, "a load balancer takes 10 droplets")
        there = {
            each["id"]
            for each in self.state["droplets"]
            if (each["region"]["slug"], each["vpc_uuid"]) == (found["region"], found["vpc_uuid"])
        }
        # Same region and VPC; what is answered otherwise is not documented.
        if not set(ids) <= there:
            raise Refusal(422, "a droplet is not in the load balancer's region and VPC")

    def _add(self, ask: Ask) -> Answer:
        found = self._changeable(ask)
        if found["tag"]:
            raise Refusal(422, "the load balancer has a tag")  # not documented
        ids = [*found["droplet_ids"]]
        ids += [each for each in ask.body["droplet_ids"] if each not in ids]
        self._check_droplets(found, ids)
        found["droplet_ids"] = ids
        self._changed()
        return Answer(204)

    def _remove(self, ask: Ask) -> Answer:
        found = self._changeable(ask)
        gone = ask.body["droplet_ids"]
        if not set(gone) <= set(found["droplet_ids"]):
            raise Refusal(404, "a droplet is not in the load balancer")  # not documented
        found["droplet_ids"] = [each for each in found["droplet_ids"] if each not in gone]
        self._changed()
        return Answer(204)

    def _drop_rules(self, ask: Ask) -> Answer:
        found = self._changeable(ask)
        gone = [_plain(each) for each in ask.body["forwarding_rules"]]
        left = [each for each in found["forwarding_rules"] if _plain(each) not in gone]
        if len(left) != len(found["forwarding_rules"]) - len(gone):
            raise Refusal(404, "there is no such rule")  # not documented
        if not left:
            raise Refusal(422, "a load balancer has a rule at least")  # minItems
        found["forwarding_rules"] = left
        self._changed()
        return Answer(204)

    def _make_tag(self, ask: Ask) -> Answer:
        name = ask.body["name"]
        # One that is there already is no error: Terraform's provider makes each before it is used.
        if name not in self.state["tags"]:
            self.state["tags"].append(name)
        return Answer(201, {"tag": {"name": name}})

    def _tagged(self, ask: Ask) -> list[list[str]]:
        """Return the tags of each droplet that is named."""
        if ask.parts["tag_id"] not in self.state["tags"]:
            raise Refusal(404, "The resource you were accessing could not be found.")
        ids = {each["resource_id"] for each in ask.body["resources"]}
        found = [each["tags"] for each in self.state["droplets"] if str(each["id"]) in ids]
        if len(found) < len(ids):
            raise Refusal(404, "a droplet does not exist")  # not documented
        return found

    def _tag(self, ask: Ask) -> Answer:
        for tags in self._tagged(ask):
            tags[:] = sorted({*tags, ask.parts["tag_id"]})
        return Answer(204)

    def _untag(self, ask: Ask) -> Answer:
        for tags in self._tagged(ask):
            tags[:] = [each for each in tags if each != ask.parts["tag_id"]]
        return Answer(204)

    def _list(self, ask: Ask) -> Answer:
        size, page = int(ask.query.get("per_page", 20)), int(ask.query.get("page", 1))
        every = self.state["droplets"]
        end = page * size
        more = {"pages": {"next": f"/v2/droplets?page={page + 1}"}} if end < len(every) else {}
        shown = every[end - size : end]
        return Answer(200, {"droplets": shown, "links": more, "meta": {"total": len(every)}})


def _check_rule(rule: Mapping[str, Any]) -> None:
    if "https" not in rule["entry_protocol"]:
        return
    # "certificate_id" and "tls_passthrough" exclude each other, and HTTPS needs one of them.
    if bool(rule.get("tls_passthrough")) == bool(rule.get("certificate_id")):
        raise Refusal(422, "HTTPS takes either a certificate or passthrough")


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if value}

"""Hetzner's API for load balancers, as far as certsync uses it.

Its form is in schemas/hetzner.json, by docs.hetzner.cloud's document of February 2026. What it does
that the document does not say has its source here; [?] is what nobody documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from tests.doubles.contract import Answer, Ask, Double, Refusal, schema_of

CODES = {
    401: "unauthorized", 403: "forbidden", 404: "not_found", 409: "conflict",
    422: "invalid_input", 423: "locked", 429: "rate_limit_exceeded", 500: "server_error",
    502: "bad_gateway", 503: "maintenance", 504: "timeout",
}  # fmt: skip
"""The usual code of a status (hcloud-go, error.go, and docs.hetzner.cloud, "Errors")."""

NETWORK = 4711
STARTED = "2026-02-03T10:00:00+00:00"
CHECK = {"protocol": "tcp", "port": 443, "interval": 15, "timeout": 10, "retries": 3}
HTTP = {
    "certificates": [], "cookie_lifetime": 300, "cookie_name": "HCLBSTICKY",
    "redirect_http": False, "sticky_sessions": False, "timeout_idle": 60,
}  # fmt: skip


class Hetzner(Double):
    """A project with load balancers and servers."""

    schema = schema_of("hetzner")

    def __init__(self, now: Callable[[], float], token: str = "hetzner-token-93ab") -> None:
        super().__init__(token, now)
        self.state: dict[str, Any] = {"balancers": {}, "servers": {}, "actions": {}}
        self.seconds = 0.0
        """How long an action takes; what it does is seen at its end."""

        self.failing: list[str] = []
        """Codes with which the next actions end, without having done anything."""

        self._pending: list[tuple[float, int, Callable[[], None], str]] = []
        self._last = 100

    def operations(self) -> Mapping[str, Callable[[Ask], Answer]]:
        balancer = "/load_balancers/{balancer}"
        found: dict[str, Callable[[Ask], Answer]] = {
            f"GET {balancer}": self._get,
            f"GET {balancer}/actions": self._list_actions,
            "GET /actions/{action}": self._get_action,
            "GET /servers": self._list_servers,
        }
        for name in ("add_service", "update_service", "delete_service", "add_target",
                     "remove_target"):  # fmt: skip
            found[f"POST {balancer}/actions/{name}"] = self._act(name, getattr(self, f"_{name}"))
        return {name: self._settled(each) for name, each in found.items()}

    def error(self, status: int, words: str) -> Answer:
        code, _, said = words.rpartition(": ")
        known = code if code and " " not in code else CODES.get(status, "unknown_error")
        body = {"error": {"code": known, "message": said or words, "details": None}}
        return Answer(status, body)

    # What a test sets up.

    def balancer(self, **settings: Any) -> int:
        """Make a load balancer in the private network, and return its id."""
        number = self._new()
        self.state["balancers"][str(number)] = {
            "id": number, "name": f"balancer-{number}", "created": STARTED, "labels": {},
            "included_traffic": 1, "ingoing_traffic": None, "outgoing_traffic": None,
            "algorithm": {"type": "least_connections"}, "protection": {"delete": True},
            "location": {"id": 1, "name": "fsn1"},
            "load_balancer_type": {
                "id": 1, "name": "lb11", "max_targets": 25, "max_services": 5,
                "max_connections": 10000,
            },
            "private_net": [{"network": NETWORK, "ip": "10.0.0.2"}],
            "public_net": {
                "enabled": True, "ipv4": {"ip": "203.0.113.7", "dns_ptr": None},
                "ipv6": {"ip": "2001:db8::7", "dns_ptr": None},
            },
            "services": [], "targets": [], **settings,
        }  # fmt: skip
        return number

    def server(self, private: str = "", public: str = "", network: int = NETWORK) -> int:
        """Make a server, and return its id."""
        number = self._new()
        nets = [{"network": network, "ip": private, "alias_ips": [], "mac_address": "86:00:00:00"}]
        self.state["servers"][str(number)] = {
            "id": number, "name": f"server-{number}", "private_net": nets if private else [],
            "public_net": {
                "ipv4": {"id": number, "ip": public, "dns_ptr": "", "blocked": False}
                if public else None, "ipv6": None,
                "floating_ips": [], "firewalls": [],
            },
        }  # fmt: skip
        return number

    def service(self, balancer: int, port: int, **settings: Any) -> None:
        """Give a load balancer a service."""
        made = {
            "listen_port": port, "destination_port": port, "protocol": "tcp",
            "proxyprotocol": False, "health_check": {**CHECK, "port": port}, **settings,
        }  # fmt: skip
        self.state["balancers"][str(balancer)]["services"].append(made)

    def target(self, balancer: int, **target: Any) -> None:
        """Give a load balancer a target, as `add_target` would."""
        self._put(self.state["balancers"][str(balancer)], target)

    # What the API does.

    def _new(self) -> int:
        self._last += 1
        return self._last

    def _settled(self, answer: Callable[[Ask], Answer]) -> Callable[[Ask], Answer]:
        def settled(ask: Ask) -> Answer:
            for each in list(self._pending):
                end, number, effect, code = each
                if self.now() < end:
                    continue
                self._pending.remove(each)
                action = self.state["actions"][str(number)]
                action.update(status="success", progress=100, finished=STARTED)
                if code:
                    action.update(status="error", error={"code": code, "message": "it failed"})
                else:
                    effect()
            return answer(ask)

        return settled

    def _act(
        self, command: str, prepare: Callable[[dict[str, Any], Any], Callable[[], None]]
    ) -> Callable[[Ask], Answer]:
        def act(ask: Ask) -> Answer:
            balancer = self._balancer(ask)
            if self._running(balancer["id"]):
                # "Item is locked (Another action is running)" (hcloud-go, error.go).
                raise Refusal(423, "locked: another action is running")
            effect = prepare(balancer, ask.body)
            number, code = self._new(), self.failing.pop(0) if self.failing else ""
            made = {
                "id": number, "command": command, "status": "running", "progress": 0,
                "started": STARTED, "finished": None, "error": None,
                "resources": [{"id": balancer["id"], "type": "load_balancer"}],
            }  # fmt: skip
            self.state["actions"][str(number)] = made
            told = deepcopy(made)
            if self.seconds or code:
                self._pending.append((self.now() + self.seconds, number, effect, code))
            else:
                effect()
                made.update(status="success", progress=100, finished=STARTED)
            return Answer(201, {"action": told})

        return act

    def _running(self, balancer: int) -> list[dict[str, Any]]:
        of_it = {"id": balancer, "type": "load_balancer"}
        return [
            each
            for each in self.state["actions"].values()
            if each["status"] == "running" and of_it in each["resources"]
        ]

    def _balancer(self, ask: Ask) -> dict[str, Any]:
        found: dict[str, Any] | None = self.state["balancers"].get(ask.parts["balancer"])
        if found is None:
            raise Refusal(404, "not_found: load balancer not found")
        return found

    def _get(self, ask: Ask) -> Answer:
        return Answer(200, {"load_balancer": deepcopy(self._balancer(ask))})

    def _get_action(self, ask: Ask) -> Answer:
        if ask.parts["action"] not in self.state["actions"]:
            raise Refusal(404, "not_found: action not found")
        return Answer(200, {"action": self.state["actions"][ask.parts["action"]]})

    def _list_actions(self, ask: Ask) -> Answer:
        found = self._running(self._balancer(ask)["id"])
        meta = {"pagination": {"page": 1, "per_page": 25, "next_page": None}}
        return Answer(200, {"actions": found, "meta": meta})

    def _list_servers(self, ask: Ask) -> Answer:
        size, page = int(ask.query.get("per_page", 25)), int(ask.query.get("page", 1))
        every = list(self.state["servers"].values())
        after = page + 1 if page * size < len(every) else None
        meta = {"pagination": {"page": page, "per_page": size, "next_page": after}}
        found = every[(page - 1) * size : page * size]
        return Answer(200, {"servers": deepcopy(found), "meta": meta})

    def _add_service(self, balancer: dict[str, Any], body: Any) -> Callable[[], None]:
        if body["listen_port"] in {each["listen_port"] for each in balancer["services"]}:
            raise Refusal(409, "source_port_already_used: the port is in use")
        if len(balancer["services"]) >= balancer["load_balancer_type"]["max_services"]:
            raise Refusal(403, "resource_limit_exceeded: no more services")
        made = {**deepcopy(body), "health_check": _told(body["health_check"])}
        return lambda: balancer["services"].append(made)

    def _update_service(self, balancer: dict[str, Any], body: Any) -> Callable[[], None]:
        service = self._service(balancer, body)
        # Whether a check that is sent in part keeps the rest: [?], so it does not.
        changed = deepcopy(body)
        if "health_check" in body:
            changed["health_check"] = _told(body["health_check"])
        return lambda: service.update(changed)

    def _delete_service(self, balancer: dict[str, Any], body: Any) -> Callable[[], None]:
        service = self._service(balancer, body)
        return lambda: balancer["services"].remove(service)

    def _service(self, balancer: dict[str, Any], body: Any) -> dict[str, Any]:
        for each in balancer["services"]:
            if each["listen_port"] == body["listen_port"]:
                found: dict[str, Any] = each
                return found
        raise Refusal(404, "not_found: service not found")

    def _add_target(self, balancer: dict[str, Any], body: Any) -> Callable[[], None]:
        if len(balancer["targets"]) >= balancer["load_balancer_type"]["max_targets"]:
            raise Refusal(403, "resource_limit_exceeded: no more targets")
        if any(_same(each, body) for each in balancer["targets"]):
            raise Refusal(422, "target_already_defined: it is a target already")
        server = self.state["servers"].get(str(body.get("server", {}).get("id")))
        if "server" in body and server is None:
            raise Refusal(404, "not_found: server not found")
        networks = {each["network"] for each in balancer["private_net"]}
        if server and body.get("use_private_ip"):
            if not networks & {each["network"] for each in server["private_net"]}:
                raise Refusal(422, "server_not_attached_to_network: not in the same network")
        elif server and not server["public_net"]["ipv4"]:
            raise Refusal(422, "missing_ipv4: no public address")
        return lambda: self._put(balancer, deepcopy(body))

    def _put(self, balancer: dict[str, Any], target: dict[str, Any]) -> None:
        # New targets get traffic before their checks pass (hcloud-cloud-controller-manager#109).
        ports = [each["listen_port"] for each in balancer["services"]]
        health = [{"listen_port": each, "status": "unknown"} for each in ports]
        if target["type"] != "ip":
            target.setdefault("use_private_ip", False)
        balancer["targets"].append({**target, "health_status": health})

    def _remove_target(self, balancer: dict[str, Any], body: Any) -> Callable[[], None]:
        for each in balancer["targets"]:
            if _same(each, body):
                return lambda: balancer["targets"].remove(each)
        raise Refusal(404, "not_found: target not found")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # A server is one target, by whichever of its addresses: [?], the stricter guess.
    return all(one.get(name) == other.get(name) for name in ("server", "ip"))


def _told(check: Mapping[str, Any]) -> dict[str, Any]:
    """Return a check as it is read: with all that was left out."""
    made = deepcopy(dict(check))
    if check["protocol"] == "http":
        usual = {"domain": None, "response": "", "status_codes": ["2??", "3??"]}
        made["http"] = {**usual, **check["http"]}
    return made

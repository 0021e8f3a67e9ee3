"""Octavia's own API with a layer before it, which asks for the token and fails as it is told to.

Octavia is a process of its own: see `tests/octavia/server`. A changing call is answered once what
was PENDING is done, so that whoever follows the state sees it before certsync does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.doubles.contract import Fault, met

LBAAS = "/v2.0/lbaas"
KINDS = ("loadbalancers", "listeners", "pools", "healthmonitors")
SETTLED_SECONDS = 20.0
IMMUTABLE = "Load Balancer is immutable and cannot be updated."
"""What Octavia says with 409 while it is busy (octavia/common/exceptions.py, ImmutableObject)."""


@dataclass(frozen=True)
class Call:
    """One request, and what became of it."""

    method: str
    path: str
    status: int
    """What was answered; 0: the connection was cut."""


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Octavia:
    """A cloud with load balancers."""

    def __init__(self, api: str, token: str, now: Callable[[], float]) -> None:
        """``api``: where Octavia itself answers."""
        self.api, self.token, self.now = api, token, now
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self.health: Mapping[str, str] = {}
        """The operating status of members, by their ids; others have what Octavia says."""

        self._kept: Any = None

    @property
    def changing(self) -> list[Call]:
        """Return the calls that could have changed something."""
        return [each for each in self.calls if each.method != "GET"]

    @property
    def state(self) -> Any:
        """Return what Octavia has, asked past the layer."""
        if self._kept is None:
            self._kept = {kind: self.ask("GET", f"/{kind}")[kind] for kind in KINDS}
            for pool in self._kept["pools"]:
                pool["members"] = self.ask("GET", f"/pools/{pool['id']}/members")["members"]
        return self._kept

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request past the layer, once all of it is done."""
        answer = requests.request(method, f"{self.api}{LBAAS}{path}", json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        if method != "GET":
            self._settle()
        return answer.json() if answer.content else None

    def _settle(self) -> None:
        self._kept = None
        end = time.monotonic() + SETTLED_SECONDS
        while any(
            each["provisioning_status"].startswith("PENDING")
            for each in self.ask("GET", "/loadbalancers")["loadbalancers"]
        ):
            assert time.monotonic() < end, "Octavia's worker does nothing"
            time.sleep(0.05)

    def take(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> Told | None:
        """Answer one request; None: the connection is to be cut."""
        path = urlsplit(target).path
        fault = met(self.faults, f"{method} {path}", self.now())
        if fault and fault.meanwhile:
            fault.meanwhile(self)
        told: Told | None = None
        if not fault or not fault.status or fault.carried_out:
            told = self._answer(method, target, headers, content)
        if fault and fault.status:
            told = _error(fault.status, fault.words, fault.headers)
        if fault and fault.cut:
            told = None
        if method != "GET" or fault:
            self._settle()
        self.calls.append(Call(method, path, told.status if told else 0))
        return told

    def _answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Told:
        if headers.get("X-Auth-Token") != self.token:
            return _error(401, "The request you have made requires authentication.")
        # With the host that was asked: links in answers begin with it.
        answer = requests.request(
            method, self.api + target, headers=headers, data=content, timeout=30
        )
        if answer.status_code == 400:
            self.refused.append(f"{method} {target}: {answer.text}")
        kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
        return Told(answer.status_code, self._with_health(answer.content), kind)

    def _with_health(self, body: bytes) -> bytes:
        """Return an answer with what checks say of members."""
        found = json.loads(body) if body else None
        if not isinstance(found, dict) or not {"members", "member"} & {*found}:
            return body
        for each in [*found.get("members", ()), *filter(None, [found.get("member")])]:
            each["operating_status"] = self.health.get(each["id"], each["operating_status"])
        return json.dumps(found).encode()


def _error(status: int, words: str, headers: Mapping[str, str] | None = None) -> Told:
    body = {"faultcode": "Client", "faultstring": words, "debuginfo": None}
    told = {"Content-Type": "application/json", **(headers or {})}
    return Told(status, json.dumps(body).encode(), told)

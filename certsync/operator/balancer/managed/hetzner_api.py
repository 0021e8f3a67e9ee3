"""Hetzner's API: its error codes, and hcloud's classes over our own connection.

Source of the codes: hcloud-go, `error.go`, and the API's own document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from hcloud import Client

from certsync.operator.balancer.managed.errors import BusyError, ManagedError, UncertainError
from certsync.operator.balancer.managed.http import Api
from certsync.system.terminal import harmless

BUSY = {"conflict", "locked", "maintenance", "robot_unavailable", "resource_unavailable"}
"""Nothing was changed, and the same call may be made again later."""

HINTS = {
    "cloud_resource_ip_not_allowed": "the token's project has no server with this address; is the "
    "load balancer in the same project?",
    "invalid_input": "is there a newer certsync?",
    "ip_not_owned": "it is no server of this project, and no dedicated server of its owner: is "
    "private_address in the fleet file right?",
    "load_balancer_not_attached_to_network": "attach the load balancer to the backends' private "
    "network",
    "missing_ipv4": "attach the load balancer to the backends' private network",
    "protected": "somebody has protected it: take that off in Hetzner's Console",
    "resource_limit_exceeded": "raise the project's limit, or change the load balancer's type",
    "resource_locked": "ask Hetzner's support",
    "server_not_attached_to_network": "attach the server to the load balancer's private network",
    "source_port_already_used": "somebody else has just made this service: run it again",
    "target_already_defined": "somebody else has just made this target: run it again",
    "targets_without_use_private_ip": "targets by their public addresses are in the way",
    "uniqueness_error": "somebody else has just made the same: run the same command again",
}
"""What to try, where the status alone does not say it."""


class HetznerApi(Api):
    """The API, with errors by their codes."""

    def _refusal(
        self, what: str, status: int, headers: Mapping[str, str], content: bytes
    ) -> ManagedError:
        return judged(_code(content), super()._refusal(what, status, headers, content))


def judged(code: str, error: ManagedError) -> ManagedError:
    """Return an error as its code says, rather than as its HTTP status does."""
    said = f"{error.message} ({harmless(code)})"
    if code in BUSY:
        seconds = error.seconds if isinstance(error, BusyError) else 0
        return BusyError(said, "run the same command again", seconds)
    if code in HINTS and not isinstance(error, UncertainError):
        return ManagedError(said, HINTS[code])
    return error


def _code(content: bytes) -> str:
    try:
        found = json.loads(content)["error"]["code"]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return ""
    return found if isinstance(found, str) else ""


class _Calls:
    """What hcloud's classes call, in place of hcloud's own connection.

    That one repeats a changing call up to five times if no answer comes, without a way to say no
    (`ClientBase.request`); it follows redirects, takes a password from ~/.netrc instead of the
    token, and has no end for an answer that drips.
    """

    def __init__(self, client: Api) -> None:
        self._api = client

    def request(
        self, method: str, url: str, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        if method == "GET":
            return self._api.get(url, **(params or {}))
        return self._api.send(method, url, json)


class HetznerClient(Client):
    """hcloud's client without its connection. It never gets the token."""

    def __init__(self, client: Api) -> None:
        super().__init__("-")
        for each in (self.load_balancers, self.servers, self.actions):
            cast("Any", each)._client = _Calls(client)  # noqa: SLF001 - there is no public way

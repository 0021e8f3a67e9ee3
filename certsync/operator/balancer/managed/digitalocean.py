"""A regional load balancer at DigitalOcean.

Nothing here was tried at DigitalOcean itself. Where a line has no source, it rests on the
provider's OpenAPI document: <https://github.com/digitalocean/openapi>.

- PUT resets every attribute that it is not told, and a GET cannot be sent back as it is. So a PUT
  is made from all that a fresh GET had, as `AsRequest` of DigitalOcean's own Go client does:
  <https://github.com/digitalocean/godo/blob/main/load_balancers.go>. What it answers is compared:
  a setting that was lost is reported.
- Nothing tells whether something else writes between that GET and the PUT: its change would be
  undone. Members come and go by calls of their own, which touch nothing else; see
  `digitalocean_pool`.
- One switch has all rules send the PROXY protocol, that of port 80 too, where backends do not
  accept it. So certsync leaves it off: ``Ability.proxy`` is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from certsync.operator.balancer.managed import digitalocean_form as form
from certsync.operator.balancer.managed.digitalocean_form import as_documented
from certsync.operator.balancer.managed.digitalocean_pool import Pool, Request
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LostError,
    ManagedError,
    RightError,
    TokenError,
    UncertainError,
)
from certsync.operator.balancer.managed.http import Api, base_of
from certsync.operator.balancer.managed.port import (
    Ability,
    Change,
    DropRule,
    SetCheck,
    SetRule,
    State,
)

BASE, VARIABLE = "https://api.digitalocean.com", "DIGITALOCEAN_TOKEN"
RIGHTS = (
    "load_balancer:read, load_balancer:update and droplet:read; for more than ten backends "
    "tag:create and tag:delete too"
)
BUSY = "processes previous actions"
"""Of a 403 while an update is in progress: <https://github.com/digitalocean/openapi/issues/1173>"""

PAGE, PAGES = 200, 100


def api(token: str, base: str = BASE) -> Api:
    """Return DigitalOcean's API for a token."""
    return Api("DigitalOcean", base, token, VARIABLE, RIGHTS, busy=BUSY)


def connect(balancer: str, environment: Mapping[str, str]) -> DigitalOcean:
    """Return a load balancer by its id.

    ``environment`` has the token, and DIGITALOCEAN_API_URL if the API is somewhere else.

    Raises:
        ManagedError: there is no token.
    """
    base = base_of("DIGITALOCEAN_API_URL", BASE, environment)
    return DigitalOcean(api(environment.get(VARIABLE, ""), base), balancer)


class DigitalOcean:
    """One load balancer, by its id. See `port.Provider`; `apply` changes what `read` has seen."""

    # How long it takes until a change is in effect is not documented.
    ability = Ability(shared_pool=True, drains=False, proxy=(), checks_tls=True, unseen_seconds=20)

    def __init__(self, of: Api, balancer: str) -> None:
        self._api = of
        self._path = f"/v2/load_balancers/{quote(balancer, safe='')}"
        self._tag = f"certsync-{balancer}"
        self._seen: dict[str, Any] = {}
        """What `read` has seen of settings and droplets."""

        self._droplets: list[Any] = []
        self._balancer: Any = {}

    def read(self) -> State:
        """Return what it has now; see `port.Provider`."""
        found = self._balancer = self._found()
        self._droplets = self._all_droplets()
        with as_documented():
            self._seen = form.everything(found)
            return State(
                rule=form.rule(found),
                members=self._pool(found).members(),
                check=form.check(found),
                busy="it is being set up" if found["status"] == "new" else "",
                objections=tuple(form.objections(found, self._tag)),
            )

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:
        """Return which backends are no droplets of the balancer's VPC; see `port.Provider`."""
        with as_documented():
            return self._pool(self._balancer).misfits(backends)

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first of these changes, and those of its kind; see `port.Provider`."""
        found = self._found()
        with as_documented():
            if form.everything(found) != self._seen:
                raise BusyError(
                    "something else has just changed the load balancer",
                    "run the same command again",
                )
            requests = self._requests(found, changes)
        try:
            for request in requests:
                self._send(request)
        except (BusyError, RightError, TokenError, UncertainError, LostError):
            raise
        except ManagedError:
            # A 422 has come though the change was made, so what is there decides:
            # https://github.com/digitalocean/terraform-provider-digitalocean/issues/13
            if not self._has_changed():
                raise

    def _requests(self, found: Any, changes: Sequence[Change]) -> list[Request]:
        first = changes[0]
        if form.kind(found) != form.REGIONAL:
            raise ManagedError(f"certsync drives no load balancer of type {form.kind(found)}")
        if isinstance(first, SetRule):
            return [("PUT", self._path, form.with_rule(found, first.rule))]
        if isinstance(first, SetCheck):
            return [("PUT", self._path, form.with_check(found, first.check))]
        if isinstance(first, DropRule):
            return [("DELETE", f"{self._path}/forwarding_rules", form.without_rule(found))]
        return self._pool(found).requests(changes)

    def _send(self, request: Request) -> None:
        method, path, body = request
        answer = self._api.send(method, path, body)
        if method != "PUT":
            return
        with as_documented():
            lost = form.lost(body, answer["load_balancer"])
        if lost:
            raise LostError(
                f"DigitalOcean has changed more than it was asked to: {', '.join(lost)}",
                "look at the load balancer there, and set it right",
            )

    def _pool(self, found: Any) -> Pool:
        return Pool(found, self._droplets, self._path, self._tag)

    def _found(self) -> Any:
        answer = self._api.get(self._path)
        with as_documented():
            return answer["load_balancer"]

    def _has_changed(self) -> bool:
        found = self._found()
        with as_documented():
            return form.everything(found) != self._seen

    def _all_droplets(self) -> list[Any]:
        found: list[Any] = []
        for page in range(1, PAGES + 1):
            answer = self._api.get("/v2/droplets", per_page=PAGE, page=page)
            with as_documented():
                found += answer["droplets"]
                if not ((answer.get("links") or {}).get("pages") or {}).get("next"):
                    break
        return found

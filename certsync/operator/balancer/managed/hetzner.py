"""A Hetzner load balancer as a balancer of certsync: its service of port 443, and its targets.

All services of a load balancer have the same targets. Sources: the API's own document
(docs.hetzner.cloud, February 2026), hcloud 2.27 and hcloud-go's list of error codes. What only
issues tell has its source beside it; [?] is what nobody documents. Nothing here was tried with a
real load balancer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

from hcloud.actions import BoundAction
from hcloud.load_balancers import (
    BoundLoadBalancer,
    LoadBalancerService,
    LoadBalancerTarget,
    LoadBalancerTargetIP,
)
from hcloud.servers import BoundServer

from certsync.operator.balancer.managed.errors import (
    BusyError,
    ManagedError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.hetzner_api import HetznerApi, HetznerClient, judged
from certsync.operator.balancer.managed.hetzner_form import (
    PROXY,
    TLS,
    check_for,
    health_of,
    id_of,
    obstacles_of,
    protocol_of,
    rule_of,
    targets_of,
)
from certsync.operator.balancer.managed.http import Api, base_of
from certsync.operator.balancer.managed.port import (
    Ability,
    Admit,
    Change,
    DropRule,
    Member,
    Remove,
    Rule,
    SetRule,
    State,
)
from certsync.system.terminal import harmless

BASE, VARIABLE = "https://api.hetzner.cloud/v1", "HCLOUD_TOKEN"
RIGHTS = "read and write; it is for a whole project, so give the load balancer one of its own"
POLLS, PAUSE_SECONDS = 30, 1.0
"""How often an action is looked at, and how long to wait between."""


def api(token: str, base: str = BASE) -> Api:
    """Return the client for a token."""
    return HetznerApi("Hetzner", base, token, VARIABLE, RIGHTS)


def connect(balancer: str, environment: Mapping[str, str]) -> HetznerBalancer:
    """Return a load balancer by its id.

    ``environment`` has the token, and HCLOUD_ENDPOINT if the API is somewhere else.

    Raises:
        ManagedError: there is no token, or the id is no number.
    """
    if not balancer.isdecimal():
        raise ManagedError(
            f"a load balancer's id is a number at Hetzner, not {harmless(balancer)}",
            "see balancer.load_balancer in the fleet file; the Console's address shows the id",
        )
    base = base_of("HCLOUD_ENDPOINT", BASE, environment)
    return HetznerBalancer(api(environment.get(VARIABLE, ""), base), int(balancer))


class HetznerBalancer:
    """One load balancer."""

    # One call changes the target port, the PROXY protocol and the check. Whether connections fail
    # meanwhile is documented nowhere [?], nor whether the check sends a PROXY header [?].
    ability = Ability(shared_pool=True, drains=False, proxy=(PROXY,), checks_tls=True)

    def __init__(
        self, client: Api, number: int, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """``number``: its id. ``sleep`` waits between two looks at an action."""
        self._client = HetznerClient(client)
        self._number = number
        self._sleep = sleep
        self._balancer: BoundLoadBalancer | None = None
        self._servers: list[BoundServer] = []

    def read(self) -> State:
        """Return what port 443 and all targets have."""
        balancers = self._client.load_balancers
        try:
            balancer = self._balancer = balancers.get_by_id(self._number)
            self._servers = self._client.servers.get_all()
            running = balancers.get_actions_list(balancer, status=["running"]).actions
            service = self._service()
            return State(
                rule_of(service) if service else None,
                tuple(
                    Member(self._address(each), id_of(each), health=health_of(each))
                    for each in targets_of(balancer)
                    if each.type != "label_selector"
                ),
                busy=", ".join(harmless(str(each.command)) for each in running),
                objections=protocol_of(service) if service else (),
                obstacles=tuple(obstacles_of(balancer)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManagedError(
                f"Hetzner's API answers in a form that this version does not know ({error!r})",
                "is there a newer certsync, or a newer hcloud?",
            ) from None

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:
        """Return which backends are in another network, or a target in another way."""
        found = {}
        for name, address in backends.items():
            try:
                self._target(name, address)
            except ManagedError as error:
                found[name] = error.message
        return found

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first change to what was read last, and wait for it."""
        change = changes[0]
        self._room(changes)
        try:
            if isinstance(change, SetRule):
                action = self._set(change.rule)
            elif isinstance(change, DropRule):
                service = LoadBalancerService(listen_port=TLS)
                action = self._client.load_balancers.delete_service(self._now(), service)
            elif isinstance(change, Admit):
                action = self._admit(change)
            elif isinstance(change, Remove):
                [gone] = [t for t in targets_of(self._now()) if id_of(t) == change.member.id]
                action = self._client.load_balancers.remove_target(self._now(), gone)
            else:
                raise ManagedError("Hetzner's load balancers cannot drain a target", "remove it")
            self._wait(action)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UncertainError(
                f"Hetzner's API answers in a form that this version does not know ({error!r})",
                "run the same command again: it reads first",
            ) from None

    def _now(self) -> BoundLoadBalancer:
        if self._balancer is None:
            raise ManagedError("the load balancer was not read yet", "run the same command again")
        return self._balancer

    def _service(self) -> LoadBalancerService | None:
        services = self._now().services or ()
        return next((each for each in services if each.listen_port == TLS), None)

    def _set(self, rule: Rule) -> BoundAction:
        has = self._service()
        service = LoadBalancerService("tcp", TLS, rule.port, bool(rule.proxy), check_for(rule, has))
        balancers = self._client.load_balancers
        send = balancers.update_service if has else balancers.add_service
        return send(self._now(), service)

    def _admit(self, change: Admit) -> BoundAction:
        target = self._target(change.name, change.address)
        return self._client.load_balancers.add_target(self._now(), target)

    def _target(self, name: str, wanted: str) -> LoadBalancerTarget:
        """Return what a backend is as a target: a server, or the address of a dedicated one.

        Raises:
            ManagedError: it cannot be one.
        """
        address = str(ip_address(wanted))
        target = LoadBalancerTarget("ip", ip=LoadBalancerTargetIP(address))
        elsewhere = False
        for each in self._servers:
            for private in (True, False):
                if address == self._reached(each, private=private):
                    target = LoadBalancerTarget("server", each, use_private_ip=private)
            elsewhere = elsewhere or address in {net.ip for net in each.private_net or ()}
        if target.type == "ip" and elsewhere:
            raise ManagedError(
                f"{name} ({address}) is in no private network of the load balancer",
                "attach the load balancer to that network",
            )
        for there in targets_of(self._now()):
            if id_of(there) == id_of(target) and self._address(there) != address:
                raise ManagedError(
                    f"{name}'s server is a target already, but not by {address}",
                    "remove that target at the load balancer, then run the same command again",
                )
        return target

    def _room(self, changes: Sequence[Change]) -> None:
        """Refuse before the first change what the load balancer's type has no room for."""
        balancer = self._now()
        of = balancer.load_balancer_type
        if of is None:
            return
        targets = len(targets_of(balancer)) + sum(isinstance(each, Admit) for each in changes)
        services = len(balancer.services or ()) + (self._service() is None)
        adds = any(isinstance(each, SetRule) for each in changes)
        hint = "change its type to a larger one, or take something out first"
        if of.max_targets and targets > max(of.max_targets, len(targets_of(balancer))):
            raise ManagedError(
                f"the load balancer would have {targets} targets, and its type {of.name} has at "
                f"most {of.max_targets}",
                hint,
            )
        if of.max_services and adds and services > of.max_services:
            raise ManagedError(f"its type {of.name} has at most {of.max_services} services", hint)

    def _wait(self, action: BoundAction) -> None:
        """Wait until an action has ended: by then it is to be seen."""
        for _ in range(POLLS):
            if action.status != action.STATUS_RUNNING:
                break
            self._sleep(PAUSE_SECONDS)
            try:
                action.reload()
            except UnansweredError as error:
                raise UncertainError(error.message, error.hint) from None
        command = f"Hetzner: {harmless(str(action.command))}"
        if action.status == action.STATUS_RUNNING:
            # It may still succeed; repeated, it would come twice (hetzner.hcloud#719).
            raise BusyError(f"{command} takes long", "run the same command again: it reads first")
        if action.status == action.STATUS_ERROR:
            why = action.error or {"code": "", "message": "without a word", "details": {}}
            said = f"{command} failed: {harmless(str(why['message']))}"
            hint = "see the load balancer's activities in Hetzner's Console"
            raise judged(str(why["code"]), ManagedError(said, hint))

    def _address(self, target: LoadBalancerTarget) -> str:
        """Return the address by which a target is reached; empty: its server is not to be seen."""
        if target.ip:
            return str(ip_address(str(target.ip.ip)))
        for each in self._servers:
            if target.server and each.id == target.server.id:
                return self._reached(each, private=bool(target.use_private_ip))
        return ""

    def _reached(self, server: BoundServer, *, private: bool) -> str:
        if private:
            networks = {each.network.id for each in self._now().private_net or ()}
            found = (each.ip for each in server.private_net or () if each.network.id in networks)
            return next((str(each) for each in found if each), "")
        public = server.public_net.ipv4 if server.public_net else None
        return str(public.ip) if public else ""

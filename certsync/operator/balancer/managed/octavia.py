"""An Octavia load balancer of an OpenStack cloud: port 443's listener and its pool.

Source: Octavia's API reference (docs.openstack.org/api-ref/load-balancer/v2) and its own code,
19.0.0, whose API the tests run with a driver that does nothing. It was never tried at a cloud.

- A pool's protocol and a member's port cannot be changed. So another PROXY protocol or port means a
  second pool with the same members, to which the listener is turned.
- Every change locks the whole load balancer until it is done (PENDING_UPDATE, 409), other people's
  changes too: cloud-provider-openstack#1520.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import openstack
from keystoneauth1 import exceptions as keystone
from openstack import exceptions as sdk

from certsync.operator.balancer.managed import octavia_form as form
from certsync.operator.balancer.managed.errors import (
    BusyError,
    LimitError,
    ManagedError,
    NoCredentialsError,
    NoSuchError,
    RightError,
    TokenError,
    UnansweredError,
    UncertainError,
)
from certsync.operator.balancer.managed.port import (
    Ability,
    Admit,
    Change,
    Drain,
    DropRule,
    Remove,
    Rule,
    SetRule,
    State,
)
from certsync.system.terminal import harmless

SECONDS, SETTLING_SECONDS, LOOK_SECONDS = 30, 180, 0.5
"""For a call; for a change to be done; and how often that is looked at."""

RIGHTS = "the role load-balancer_member, or an application credential with access rules for Octavia"
AGAIN = "run the same command again"


def connect(balancer: str, environment: Mapping[str, str]) -> Octavia:  # noqa: ARG001  # the SDK's
    """Return a load balancer by its id.

    The SDK reads clouds.yaml and the environment's OS_ variables.

    Raises:
        ManagedError: there are no credentials.
    """
    with _in_our_words(changing=False):
        try:
            cloud = openstack.connect(api_timeout=SECONDS, app_name="certsync")
        # The SDK has a TypeError for a token that is empty.
        except (sdk.ConfigException, keystone.MissingRequiredOptions, TypeError) as error:
            raise NoCredentialsError(
                f"OpenStack's credentials are missing: {harmless(str(error))}",
                "export OS_CLOUD, with the name of a cloud in clouds.yaml",
            ) from None
        return Octavia(cloud.load_balancer, balancer)


class Octavia:
    """One load balancer."""

    ability = Ability(
        shared_pool=False, drains=True, proxy=("v1", "v2"), pool_of_rule=True, gap_seconds=0
    )

    def __init__(
        self, api: Any, balancer: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """``api``: the SDK's proxy of the load-balancer service."""
        self._api, self._id, self._sleep = api, balancer, sleep
        self._balancer: Any = None
        self._listener: Any = None
        self._pool: Any = None
        self._members: list[Any] = []
        self._monitor: Any = None

    def read(self) -> State:
        """Return what port 443 has."""
        with _in_our_words(changing=False):
            self._balancer = self._api.get_load_balancer(self._id)
            found = [self._api.get_listener(each["id"]) for each in self._balancer.listeners]
            found = [each for each in found if each.protocol_port == form.TLS]
            self._listener = next((each for each in found if each.protocol != "UDP"), None)
            pool = self._listener.default_pool_id if self._listener else None
            self._look_at(self._api.get_pool(pool) if pool else None)
        if self._balancer.provider == "ovn":
            self.ability = form.WITHOUT_PROXY
        with form.as_documented():
            rule = form.rule(self._listener, self._pool, self._members, self._monitor)
            return State(
                rule,
                tuple(form.member(each) for each in self._members),
                busy=form.busy(self._balancer),
                objections=tuple(form.objections(found)),
                obstacles=tuple(form.obstacles(self._balancer)),
            )

    def misfits(self, backends: Mapping[str, str]) -> Mapping[str, str]:  # noqa: ARG002  # the port's
        """Return nothing: Octavia takes any address, and the cloud's routers decide."""
        return {}

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the first change, to what was read last."""
        change = changes[0]
        with _in_our_words(changing=True):
            if isinstance(change, SetRule):
                self._set(change.rule)
            elif isinstance(change, DropRule):
                self._drop()
            elif isinstance(change, Admit):
                self._admit(change)
            elif isinstance(change, Drain):
                self._api.update_member(change.member.id, self._pool, weight=0)
            elif isinstance(change, Remove):
                self._api.delete_member(change.member.id, self._pool, ignore_missing=False)

    def _look_at(self, pool: Any) -> None:
        self._pool = pool
        self._members = list(self._api.members(pool)) if pool else []
        monitor = pool.health_monitor_id if pool else None
        self._monitor = self._api.get_health_monitor(monitor) if monitor else None

    def _admit(self, change: Admit) -> None:
        for each in self._members:
            if (each.address, each.protocol_port) == (change.address, change.port):
                self._api.update_member(each, self._pool, weight=1, is_admin_state_up=True)
                return
        # Without a subnet it is reached from that of the balancer's own address.
        self._api.create_member(
            self._pool, name=change.name, address=change.address, protocol_port=change.port
        )

    def _set(self, rule: Rule) -> None:
        before, listener = self._pool, self._listener
        if not form.fits(before, self._members, rule):
            self._look_at(self._pool_for(rule, self._members))
        self._settle_pool(rule)
        if listener is not None and listener.protocol != "TCP":
            self._settled(lambda: self._api.delete_listener(listener))
            listener = None
        if listener is None:
            self._settled(
                lambda: self._api.create_listener(
                    name="certsync-443", load_balancer_id=self._id, protocol="TCP",
                    protocol_port=form.TLS, default_pool_id=self._pool.id, tags=[form.OURS],
                )
            )  # fmt: skip
        elif listener.default_pool_id != self._pool.id or not listener.is_admin_state_up:
            self._settled(
                lambda: self._api.update_listener(
                    listener, default_pool_id=self._pool.id, is_admin_state_up=True
                )
            )
        if before is not None and before.id != self._pool.id and form.OURS in (before.tags or ()):
            self._settled(lambda: self._api.delete_pool(before))

    def _pool_for(self, rule: Rule, members: Sequence[Any]) -> Any:
        """Return a pool with this protocol and the same members on this port: ours, or a new one.

        One that an interrupted run has left is made whole.
        """
        name = form.pool_name(self._balancer, rule)
        known = [self._api.get_pool(each["id"]) for each in self._balancer.pools]
        pool = next((each for each in known if each.name == name and form.OURS in each.tags), None)
        if pool is None:
            pool = self._settled(
                lambda: self._api.create_pool(
                    name=name, loadbalancer_id=self._id, protocol=form.PROTOCOLS[rule.proxy],
                    lb_algorithm="ROUND_ROBIN", tags=[form.OURS],
                )
            )  # fmt: skip
        self._have_members(pool, rule.port, [each for each in members if each.weight])
        return self._api.get_pool(pool.id)

    def _have_members(self, pool: Any, port: int, wanted: Sequence[Any]) -> None:
        left = list(self._api.members(pool))
        there = {each.address for each in left if each.protocol_port == port}
        for each in wanted:
            if each.address not in there:
                self._settled(
                    partial(
                        self._api.create_member, pool, name=each.name, address=each.address,
                        protocol_port=port, subnet_id=each.subnet_id,
                    )
                )  # fmt: skip
        addresses = {each.address for each in wanted}
        for each in left:
            if each.address not in addresses or each.protocol_port != port:
                self._settled(partial(self._api.delete_member, each, pool))

    def _settle_pool(self, rule: Rule) -> None:
        """Have the pool treat all members and clients alike, and check them by connections."""
        pool, monitor = self._pool, self._monitor
        if pool.session_persistence or pool.lb_algorithm.startswith("SOURCE_IP"):
            self._settled(
                lambda: self._api.update_pool(
                    pool, session_persistence=None, lb_algorithm="ROUND_ROBIN"
                )
            )
        if monitor is not None and rule.check and monitor.type != "TCP":
            self._settled(lambda: self._api.delete_health_monitor(monitor))
            monitor = None
        if monitor is None and rule.check:
            self._settled(lambda: self._api.create_health_monitor(pool_id=pool.id, **form.MONITOR))

    def _drop(self) -> None:
        pool, listener = self._pool, self._listener
        self._settled(lambda: self._api.delete_listener(listener))
        if pool is not None and form.OURS in (pool.tags or ()):
            self._settled(lambda: self._api.delete_pool(pool))

    def _settled(self, change: Callable[[], Any]) -> Any:
        """Make a change, and return what it returns once the load balancer is done with it."""
        made = change()
        for _ in range(int(SETTLING_SECONDS / LOOK_SECONDS)):
            busy = form.busy(self._api.get_load_balancer(self._id))
            if not busy:
                return made
            self._sleep(LOOK_SECONDS)
        raise BusyError(f"the load balancer is still busy after {SETTLING_SECONDS} s", AGAIN)


@contextmanager
def _in_our_words(*, changing: bool) -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    try:
        yield
    except (keystone.Unauthorized, keystone.MissingAuthPlugin):
        raise _not_accepted() from None
    except sdk.HttpException as error:
        raise _refusal(error) from None
    except (sdk.SDKException, keystone.ClientException) as error:
        why = f"OpenStack: {harmless(str(error))[:300]}"
        raise UncertainError(why, AGAIN) if changing else UnansweredError(why, AGAIN) from None


def _not_accepted() -> TokenError:
    return TokenError(
        "OpenStack does not accept the credentials",
        "are those of OS_CLOUD in clouds.yaml, or the OS_ variables, right and not expired?",
    )


def _refusal(error: Any) -> ManagedError:
    status = int(error.status_code or 0)
    said = f"Octavia ({status}): {harmless(str(error.details or error))[:300]}"
    if status == 401:
        return _not_accepted()
    if status == 403:
        return RightError(said, f"the credentials need: {RIGHTS}")
    if status == 404:
        return NoSuchError(said, "is balancer.load_balancer in the fleet file right?")
    if status == 409:
        return BusyError(said, AGAIN)
    if status == 429:
        return LimitError(said, "try again later")
    if status >= 500 or not status:
        return UncertainError(said, AGAIN)
    return ManagedError(said, "nothing was changed by this call")

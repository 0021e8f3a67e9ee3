"""How a balancer's pools and its rule would change, as text. Pure."""

from __future__ import annotations

from certsync.model.fleet import Fleet
from certsync.operator.balancer.gate import Gate, proxy_port


def pools(balancer: str, before: Gate, now: Gate, fleet: Fleet) -> tuple[str, ...]:
    """Return a balancer's pools and rule, before and after, as text.

    ``now`` is what can be decided without the run: an unproven backend may be proven by then.
    """
    lines = [f"{balancer}: passthrough rule: {_rule(before, now, fleet)}"]
    has, gets = before.pools_of(fleet), now.pools_of(fleet)
    changes = {
        "tls" if lineage == fleet.name else f"tls of {lineage}": (
            has.get(lineage, {}), gets.get(lineage, {}),
        )
        for lineage in {**gets, **has}
    }  # fmt: skip
    for pool, (was, will) in {**changes, "port 80": (before.web, now.web)}.items():
        names = [*was, *(each for each in will if each not in was)]
        members = ", ".join(f"{name} {_place(was.get(name), will.get(name))}" for name in names)
        lines.append(f"{balancer}: {pool}: {members}")
    return (*lines, *_addresses(balancer, before, now, fleet))


def _addresses(balancer: str, before: Gate, now: Gate, fleet: Fleet) -> tuple[str, ...]:
    """Return which backends start or stop getting the clients' addresses, as text."""
    proxy = proxy_port(fleet)
    names = [
        name
        for name, port in now.ports.items()
        if before.ports.get(name, 0) != port or (proxy and not port)
    ]
    if not names:
        return ()
    change = "sent once its proxy_port answers the balancer" if proxy else "no longer sent"
    return (f"{balancer}: clients' addresses: {', '.join(names)}: {change}",)


def _rule(before: Gate, now: Gate, fleet: Fleet) -> str:
    was = "on" if before.rule else "off"
    will = "on" if now.rule else "off"
    if not now.rule and fleet.passthrough:
        will = "on, once a backend is proven"
    return was if was == will else f"{was} -> {will}"


def _place(was: bool | None, will: bool | None) -> str:
    words = {None: "not there", False: "disabled", True: "in"}
    then = "out" if will is None else "in"
    if will is False:
        then = "in, once it is proven"
    return then if words[was] == then else f"{words[was]} -> {then}"

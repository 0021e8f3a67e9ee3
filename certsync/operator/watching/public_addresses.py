"""What clients get at the public addresses, as seen from the operator's machine."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime

from certsync.model.fleet import Fleet, Lineage
from certsync.model.options import Provider
from certsync.model.proof import Proof, Served, Unreachable, Verdict, judge
from certsync.operator.balancer.gate import proxy_port
from certsync.operator.watching import alt_svc, proxy_protocol_check
from certsync.system import proving
from certsync.system.handshake import probe

Shown = Mapping[tuple[str, str], tuple[Served | Unreachable, str]]
"""What is served, and any HTTP/3 header, by lineage and public address; empty: not probed."""


def shown(fleet: Fleet, pool: Executor, now: datetime) -> Shown:
    """Probe each public address from this machine, for each lineage."""
    port, roots = proving.TLS_PORT, fleet.authority.roots
    looks = {
        (each.name, address): (
            pool.submit(probe, address, port, each.name, roots, now),
            pool.submit(alt_svc.promise, address, port, each.name),
        )
        for each in fleet.lineages
        for address in fleet.public_addresses
    }
    return {where: (seen.result(), header.result()) for where, (seen, header) in looks.items()}


def through(
    fleet: Fleet,
    lineage: Lineage,
    proofs: list[Proof],
    shown: Shown,
    now: datetime,
    is_open: bool | None,
) -> tuple[list[Proof], list[str]]:
    """Return a proof for each public address, and notes on those that cannot be probed from here.

    An address gets the verdict of the backend that serves the same certificate. ``is_open`` is
    whether a provider's balancer has its rule on; None: unknown.
    """
    trusted = (Verdict.IN_SYNC, Verdict.BEHIND)
    served = {proof.fingerprint: proof for proof in proofs if proof.verdict in trusted}
    found, notes = list[Proof](), list[str]()
    for address in fleet.public_addresses if shown else ():
        seen, header = shown[lineage.name, address]
        if not notes and header:
            notes.append(alt_svc.note(lineage.name, header))
        if note := _unknown(fleet, address, seen, is_open):
            notes.append(note)
            continue
        judged = judge(address, seen, (), (), None, now)
        same = served.get(judged.fingerprint)
        if judged.verdict is Verdict.BEHIND and same is not None:
            judged = replace(same, name=address)
        elif judged.verdict is Verdict.BEHIND:
            judged = replace(judged, why="it serves a different certificate than the backends")
        if judged.verdict in trusted and _drops_requests(fleet, lineage, address):
            why = proxy_protocol_check.finding(proxy_port(fleet) or proving.TLS_PORT)
            judged = replace(judged, verdict=Verdict.UNREACHABLE, why=why)
        found.append(judged)
    return found, notes


def _unknown(fleet: Fleet, address: str, seen: Served | Unreachable, is_open: bool | None) -> str:
    """Return why it is unknown what a public address serves, as a note; empty: it is known."""
    if not isinstance(seen, Unreachable):
        return ""
    if seen.no_route:
        return f"{address}: not probed, this machine has no route to it"
    if fleet.balancer.provider is Provider.HAPROXY or is_open:
        return ""
    # Only the provider's balancer knows whether its rule is on yet.
    return f"{address}: nothing answers on port 443; see `certsync rules` for what to set"


def _drops_requests(fleet: Fleet, lineage: Lineage, address: str) -> bool:
    """Return whether the backends drop requests from a provider's balancer."""
    if fleet.balancer.provider is Provider.HAPROXY:
        return False
    path = fleet.balancing.health_path
    return proxy_protocol_check.drops_requests(address, proving.TLS_PORT, lineage.name, path)

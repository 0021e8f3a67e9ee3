"""Probe every backend: the proof that deploys, gates and people rely on."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import sleep

from certsync.model.errors import StoreError
from certsync.model.fleet import Machine
from certsync.model.generation import Manifest
from certsync.model.proof import Proof, Unreachable, Verdict, judge
from certsync.system import key_exchange, parallel
from certsync.system.handshake import probe
from certsync.system.patience import Late, Patience

TLS_PORT = 443
PATIENCE = timedelta(seconds=10)
"""How long a reload may take: the command returns before nginx's new workers serve."""
SLOW = Unreachable("it is slow to answer")


@dataclass(frozen=True)
class Expected:
    """What every backend should serve."""

    current: Manifest | None
    chain: tuple[bytes, ...]
    """The current generation's certificates, DER, leaf first."""

    manifests: tuple[Manifest, ...]
    roots: str


def prove(
    hosts: Sequence[Machine],
    name: str,
    wanted: Expected,
    now: datetime,
    patience: Patience | None = None,
) -> list[Proof]:
    """Probe hosts for a name at their private addresses, many at once, and judge by ``now``.

    With ``patience``, those that are late count as unreachable.

    Raises:
        StoreError: the roots cannot be read.
    """

    def look(machine: Machine) -> Proof:
        seen = probe(machine.private_address, TLS_PORT, name, wanted.roots, now)
        return judge(machine.name, seen, wanted.chain, wanted.manifests, wanted.current, now)

    try:
        ssl.create_default_context(cafile=wanted.roots or None)
    except OSError as error:
        raise StoreError(
            f"{wanted.roots}: {error.strerror or error}", "is ca.roots in the fleet file right?"
        ) from None
    if patience is None:
        return parallel.each(look, hosts)
    return [
        judge(machine.name, SLOW, wanted.chain, wanted.manifests, wanted.current, now)
        if isinstance(found, Late)
        else found
        for machine, found in patience.each(look, hosts)
    ]


def prove_with_key_exchange(
    hosts: Sequence[Machine], name: str, wanted: Expected, now: datetime
) -> list[Proof]:
    """Probe hosts as `prove` does, and at the same time ask each which key exchange it chooses.

    Only for people who look: it is one more connection with each host.

    Raises:
        StoreError: the roots cannot be read.
    """
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(key_exchange.of_each, hosts, TLS_PORT, name)
        proofs = prove(hosts, name, wanted, now)
        groups = asked.result()
    return [replace(proof, key_exchange=group) for proof, group in zip(proofs, groups, strict=True)]


def prove_patiently(
    hosts: Sequence[Machine], name: str, wanted: Expected, now: datetime
) -> list[Proof]:
    """Return the verdicts; hosts that may still be reloading are probed again for a while."""
    proofs = {proof.name: proof for proof in prove(hosts, name, wanted, now)}
    waited = timedelta(0)
    # Short at first, for an exact measure of how long two generations were served side by side.
    pause = timedelta(seconds=0.02)
    while waited < PATIENCE:
        late = [host for host in hosts if proofs[host.name].verdict in _PASSING]
        if not late:
            break
        sleep(pause.total_seconds())
        waited += pause
        pause = min(pause * 2, timedelta(seconds=2))
        proofs.update({proof.name: proof for proof in prove(late, name, wanted, now)})
    return [proofs[host.name] for host in hosts]


_PASSING = (Verdict.BEHIND, Verdict.WRONG)

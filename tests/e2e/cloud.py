"""A provider's API on a lab: its double, and a real HAProxy that does what the double's state says.

The double is served by the test's own process, on 127.0.0.1 of the operator's namespace. After each
call, HAProxy on the lab's balancer is told what has changed. Before each, what HAProxy thinks of
the targets is told to the double, for providers whose API has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.network import namespace
from tests.doubles.contract import differences
from tests.doubles.listener import Listener
from tests.doubles.server import Front, listening, serve
from tests.e2e.clouds import Provider
from tests.e2e.clouds_all import PROVIDERS
from tests.e2e.inside import inside
from tests.e2e.provider_haproxy import Haproxy
from tests.e2e.road import LIVE, Road

TLS = 443


@dataclass(frozen=True)
class Moment:
    """What the balancer does after a call that has changed it."""

    call: Any
    is_open: bool
    """Whether port 443 listens."""

    pool: frozenset[str]
    """The backends that get new connections of port 443, open or not."""

    leaving: frozenset[str]
    """Those that keep open connections alone."""

    serving: frozenset[str]
    """The backends that serve the issuer's live certificate at that moment, of those in the
    pool."""

    holding: frozenset[str]
    """The lab's hosts that have a certificate of ours at that moment."""


class Cloud:
    """A provider on a lab."""

    def __init__(self, road: Road, provider: Provider) -> None:
        self.road = road
        self.provider = provider
        self.base = ""
        self.haproxy = Haproxy(road.lab.balancer)
        self.moments: list[Moment] = []
        """What has been since `forget`."""

        self.first = deepcopy(provider.double.state)
        self._pool = ThreadPoolExecutor(1)

    @property
    def double(self) -> Front:
        """The provider's double."""
        return self.provider.double

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables by which an operator's commands reach it."""
        return self.provider.environment(self.base)

    @property
    def pool(self) -> frozenset[str]:
        """The backends that get new connections of port 443."""
        return self._targets(takes=True)

    @property
    def is_open(self) -> bool:
        """Whether port 443 listens."""
        return any(each.port == TLS for each in self.provider.listeners())

    def forget(self) -> None:
        """Forget the calls and moments so far."""
        self.double.calls.clear()
        self.moments.clear()

    def foreign(self) -> dict[str, tuple[Any, Any]]:
        """Return what is not as it was at first, of all that is not certsync's to change."""
        ours = self.provider.without_ours
        return differences(ours(self.first), ours(self.double.state))

    @contextmanager
    def around(self) -> Iterator[None]:
        """Do before and after a request what `serve` is to do."""
        self.provider.hear(self.haproxy.health())
        before = self._met()
        yield
        if self._met() != before:
            self.moments.append(self._now())
        self.follow()

    def _met(self) -> Sequence[Listener]:
        """Return what clients meet."""
        return [each for each in self.provider.listeners() if not each.beside]

    def follow(self) -> None:
        """Have HAProxy do what the state says: now, or after the time that it takes."""
        wanted = self.provider.listeners()
        if self.provider.lag:
            self._pool.submit(self._later, wanted, time.monotonic() + self.provider.lag)
        else:
            self.haproxy.become(wanted)

    def _later(self, wanted: Sequence[Listener], due: float) -> None:
        try:
            if wanted != self.haproxy.does:
                time.sleep(max(0, due - time.monotonic()))
                self.haproxy.become(wanted)
        except Exception as error:  # noqa: BLE001 - a test's thread: `serve` reports it
            self.double.broken.append(repr(error))

    def close(self) -> None:
        """End what runs beside."""
        self._pool.shutdown()
        self.provider.close()

    def _now(self) -> Moment:
        live, pool = self._live(), self.pool
        hosts = self.road.lab.backends
        return Moment(
            self.double.calls[-1],
            self.is_open,
            pool,
            self._targets(takes=False),
            frozenset(
                each.name
                for each in hosts
                if each.name in pool and self.road.shown_by(each.address).strip() == live
            ),
            frozenset(each.name for each in hosts if (each.root / LIVE.lstrip("/")).is_symlink()),
        )

    def _live(self) -> str:
        """Return the PEM of the leaf that is live on the issuer; a placeholder is none."""
        live = self.road.issuer.root / LIVE.lstrip("/")
        if not live.is_symlink() or live.readlink().name == "0000":
            return "nothing is live"
        chain = (live.parent / live.readlink() / "fullchain.pem").read_bytes()
        return x509.load_pem_x509_certificate(chain).public_bytes(Encoding.PEM).decode().strip()

    def _targets(self, *, takes: bool) -> frozenset[str]:
        names = {each.address: each.name for each in self.road.lab.backends}
        there = self._met()
        shown = there if self.provider.shared_pool else [e for e in there if e.port == TLS]
        return frozenset(
            names[target.address]
            for each in shown
            for target in each.targets
            if target.takes is takes
        )


@contextmanager
def running(road: Road, name: str) -> Iterator[Cloud]:
    """Run a provider while the block lasts, and put a fleet behind it that was never deployed."""
    lab = road.lab
    made = Cloud(road, PROVIDERS[name](lab))
    lab.balancer.sh("apt-get install -y -qq haproxy")
    made.haproxy.become(made.provider.listeners())
    operator = namespace(lab.name, "operator")
    road.edit(
        f'[balancers.balancer]\naddress = "{lab.balancer.address}"\n',
        f'[balancer]\nprovider = "{made.provider.name}"\n'
        f'load_balancer = "{made.provider.balancer}"\n'
        f'networks = ["{made.provider.networks}"]\n',
    )
    try:
        with serve(made.double, lambda: inside(operator, listening), made.around) as made.base:
            road.environment = made.environment
            yield made
    finally:
        made.close()
    assert made.double.refused == [], "certsync has sent what the schema does not allow"

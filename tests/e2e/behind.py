"""What the tests behind a provider's balancer do, and look at from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Lab, Machine
from lab.network import namespace
from tests.e2e.cloud import Cloud
from tests.e2e.inside import inside
from tests.e2e.load import NEW, Load, Tally, Target
from tests.e2e.road import NAME, Ended, Road, state

SETTLED = 40.0
"""Seconds: DigitalOcean's own checks have to be good twice."""

PAUSE = 0.05
LOUDLY = (
    "import logging; logging.basicConfig(level=logging.DEBUG); "
    "from certsync.main import main; main()"
)
"""Runs certsync with all that its libraries log."""


class Overheard(Road):
    """A road on which all that is printed is kept."""

    said = ""

    def _operator(self, *argv: str, seconds: float) -> Ended:
        ended = super()._operator(*argv, seconds=seconds)
        self.said += ended.everything
        return ended


@contextmanager
def loaded(road: Road) -> Iterator[Callable[[], Tally]]:
    """Give what ends and counts a load of new connections that flows inside the block."""
    target, lab = Target(NAME, str(road.lab.ca.roots)), road.lab
    with Load(lab.operator_argv(), NEW, [lab.balancer.address], target, pause=0.01) as load:
        yield load.over


def well(ended: Ended) -> Ended:
    assert ended.status == 0, ended.everything
    return ended


def spread(road: Road, names: Collection[str]) -> bool:
    """Return whether these backends and no others answer, once new ones have passed the checks."""
    end = time.monotonic() + SETTLED
    while (seen := road.pages(3 * len(names))) != {*names} and time.monotonic() < end:
        assert seen < {*names}
    return seen == {*names}


@contextmanager
def watched(lab: Lab) -> Iterator[list[float]]:
    """Give the seconds of each time that it is closed for inside the block."""
    closed: list[float] = []
    over = threading.Event()
    operator, place = namespace(lab.name, "operator"), (lab.balancer.address, 443)

    def opens() -> bool:
        try:
            inside(operator, lambda: socket.create_connection(place, 5)).close()
        except ConnectionError:
            return False
        return True

    def watch() -> None:
        since: float | None = None
        while not over.wait(PAUSE):
            now = time.monotonic()
            if not opens():
                since = since or now
            elif since:
                closed.append(time.monotonic() - since)
                since = None

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield closed
    finally:
        over.set()
        thread.join()


@contextmanager
def another_certificate(machine: Machine) -> Iterator[None]:
    """Have port 443 of a host answered by something that certsync does not see inside the block."""
    rule = "PREROUTING -t nat -p tcp --dport 443 -j REDIRECT --to-ports 4443"
    machine.sh(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
        f"-subj /CN={NAME} -keyout /root/key.pem -out /root/crt.pem && "
        "systemd-run -q --collect --unit another "
        "openssl s_server -accept 4443 -cert /root/crt.pem -key /root/key.pem -www && "
        f"iptables -A {rule} && ip6tables -A {rule}"
    )
    try:
        yield
    finally:
        machine.sh(f"systemctl stop another; iptables -D {rule}; ip6tables -D {rule}")


def refused_for_its_gap(cloud: Cloud, road: Road) -> None:
    """Check that nothing is changed until somebody accepts that port 443 is closed for a while."""
    before, done = state(road.lab), len(cloud.double.changing)
    ended = road.deploy()
    assert ended.status == 1
    assert f"closes port 443 for up to {cloud.provider.gap_seconds} s" in ended.stderr
    assert "certsync deploy FLEET --accept-gap" in ended.stderr
    assert state(road.lab) == before
    assert len(cloud.double.changing) == done


def deploying(cloud: Cloud) -> subprocess.Popen[bytes]:
    """Return a deploy that has begun, in a process group of its own."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    road = cloud.road
    return subprocess.Popen(
        [*road.lab.operator_argv(), "certsync", "deploy", str(road.fleet_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": path, **cloud.environment},
        start_new_session=True,
    )


def killing(process: subprocess.Popen[bytes]) -> Callable[[object], None]:
    """Return what kills a process and all that it has started."""
    return lambda _: os.killpg(process.pid, signal.SIGKILL)


def loudly(road: Road, verb: str) -> Ended:
    """Run one of the operator's commands with all that its libraries log."""
    return road.operator("python", "-c", LOUDLY, verb, str(road.fleet_file))

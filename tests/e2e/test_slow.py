"""One bad replica holds up the others by ten seconds at most, however it is bad."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lab import Lab, Machine, cgroup, network
from tests.e2e.conftest import BringUp
from tests.e2e.road import LINEAGE, LIVE, Ended, Road

MOST_SECONDS = 10.0
RECEIVER = "/usr/local/lib/certsync/receiver"
ISSUER = 11
Bad = Callable[[Machine], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service."""
    with bring_up(Lab("slow", backends=3), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("slow"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def undisturbed(road: Road) -> float:
    """Return the seconds from a new generation to its activation on the last replica.

    Measured after each disturbed run, because other tests may slow this machine down meanwhile.
    """
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    return seconds_until_live(road, road.replicas)


def seconds_until_live(road: Road, machines: list[Machine]) -> float:
    """Return how long after the issuer had it the last of these had the newest generation live."""
    number = road.current(road.issuer)
    kept = float(road.issuer.sh(f"stat -c %.Y {LINEAGE}/{number}/manifest.json"))
    live = [machine.sh(f"readlink {LIVE}; stat -c %.Y {LIVE}") for machine in machines]
    assert all(each.split()[0].endswith(f"/{number}") for each in live)
    return max(float(each.split()[1]) for each in live) - kept


@contextmanager
def dropping(machine: Machine, port: int) -> Iterator[None]:
    """Drop what the issuer sends to a port."""
    issuer = f"{network.IPV4}{ISSUER}"
    machine.sh(f"iptables -I INPUT -p tcp --dport {port} -s {issuer} -j DROP")
    try:
        yield
    finally:
        machine.sh(f"iptables -D INPUT -p tcp --dport {port} -s {issuer} -j DROP")


@contextmanager
def unplugged(machine: Machine) -> Iterator[None]:
    machine.cut()
    try:
        yield
    finally:
        machine.join()


@contextmanager
def frozen(machine: Machine) -> Iterator[None]:
    """Stop every process of a machine: its kernel still takes connections."""
    stopped = cgroup.processes(machine.group)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)


@contextmanager
def slow_receiver(machine: Machine, seconds: int) -> Iterator[None]:
    script = f'#!/bin/sh\\nsleep {seconds}\\nexec {RECEIVER}.real "$@"\\n'
    machine.sh(f"cp {RECEIVER} {RECEIVER}.real && printf '{script}' > {RECEIVER}.new && "
               f"chmod 755 {RECEIVER}.new && mv {RECEIVER}.new {RECEIVER}")  # fmt: skip
    try:
        yield
    finally:
        machine.sh(f"mv {RECEIVER}.real {RECEIVER}")


BAD: dict[str, Bad] = {
    "it is black-holed": unplugged,
    "port 443 is dropped": lambda machine: dropping(machine, 443),
    "SSH is dropped": lambda machine: dropping(machine, 22),
    "it is frozen": frozen,
    "its receiver hangs": lambda machine: slow_receiver(machine, 30),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_replica_holds_up_the_others_by_ten_seconds_at_most(road: Road, kind: str) -> None:
    bad, other = road.replicas
    ended: list[Ended] = []
    with BAD[kind](bad):
        run = threading.Thread(target=lambda: ended.append(road.renew("--force")))
        run.start()
        run.join(timeout=280)
    assert ended[0].status == 1 or kind == "its receiver hangs", ended[0].everything
    assert bad.name in ended[0].stderr
    taken = seconds_until_live(road, [road.issuer, other])
    healed = road.renew()
    assert healed.status == 0, healed.everything
    assert len(set(road.generations().values())) == 1
    usual = undisturbed(road)
    print(f"{kind}: {taken:.1f} s until live on the others, {usual:.1f} s undisturbed")
    assert taken < usual + MOST_SECONDS


def test_a_replica_that_is_slow_gets_it_in_the_same_run_after_the_others(
    road: Road,
) -> None:
    bad, other = road.replicas
    with slow_receiver(bad, 12):
        ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert f"{bad.name}: slow, so updated after the others" in ended.stderr
    taken = seconds_until_live(road, [road.issuer, other])
    assert len(set(road.generations().values())) == 1
    assert taken < undisturbed(road) + MOST_SECONDS

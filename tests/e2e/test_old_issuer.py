"""The issuer is destroyed, another backend takes over, and the old one comes back from the dead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import Road

ETC = "find /etc/certsync -type f -exec sha256sum {} + | sort; readlink /etc/certsync/live/*"


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service, whose issuer is then gone."""
    with bring_up(Lab("oldissuer"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("oldissuer"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def held_by(road: Road) -> list[str]:
    return [machine.sh(ETC) for machine in road.lab.backends[1:]]


def test_an_issuer_that_answers_is_not_dead(road: Road) -> None:
    ended = road.certsync("promote", "backend-02", "--old-is-dead")
    assert ended.status == 1
    assert (
        "error: backend-01 answers over SSH, so it is not dead; nothing was changed\n"
        "hint: leave out --old-is-dead: it can hand its role over\n"
    ) in ended.stderr


def test_one_that_does_not_serve_the_current_generation_is_not_promoted(road: Road) -> None:
    replica = road.lab.machine("backend-03")
    replica.cut()
    try:
        assert road.renew("--force").status == 1
    finally:
        replica.join()
    replica.sh("iptables -I INPUT -p tcp --dport 22 -s 203.0.113.11 -j REJECT")
    try:
        ended = road.certsync("promote", "backend-03")
    finally:
        replica.sh("iptables -D INPUT -p tcp --dport 22 -s 203.0.113.11 -j REJECT")
    assert ended.status == 1
    assert "error: backend-03 cannot become the issuer: " in ended.stderr
    assert "nothing was changed\nhint: promote one that serves the current" in ended.stderr
    assert road.renew().status == 0


def test_without_the_issuer_a_promotion_asks_whether_it_is_dead(road: Road) -> None:
    road.lab.machine("backend-01").power_off()
    ended = road.certsync("promote", "backend-02")
    assert ended.status == 1
    assert "error: backend-01: " in ended.stderr
    assert (
        f"If it will not come back: certsync promote {road.fleet_file} backend-02 --old-is-dead"
        in ended.stderr
    )


def test_another_backend_takes_over_from_a_dead_issuer(road: Road) -> None:
    orders = road.lab.ca.orders()
    ended = road.as_announced("promote", "backend-02", "--old-is-dead")
    assert ended.status == 0, ended.everything
    assert 'issuer = "backend-02"' in road.fleet_file.read_text()
    assert "warning: backend-01 is still in the fleet; if it comes back, " in ended.stderr
    assert road.lab.ca.orders() == orders
    assert road.pages() == {"backend-02", "backend-03"}


def test_a_renewal_by_the_new_issuer_reaches_all_that_are_left(road: Road) -> None:
    ended = road.renew("--force")
    # The dead one is named, and holds back nobody.
    assert ended.status == 1
    assert "backend-01: " in ended.stderr.split("error: ")[1]
    assert "backend-03: " not in ended.stderr.split("error: ")[1]
    numbers = {road.current(machine) for machine in road.lab.backends[1:]}
    assert numbers == {"0003"}


def test_the_old_issuer_orders_and_pushes_nothing_and_says_why(road: Road) -> None:
    old = road.lab.machine("backend-01")
    old.boot()
    old.wait()
    before, orders = held_by(road), road.lab.ca.orders()
    own = old.sh(ETC)
    for run in ("renew", "renew --force", "issue", "replicate", "renew --force"):
        status, told = old.attempt(f"certsync {run} 2>&1")
        print(told)
        if run != "issue":
            # Nothing is due, so `issue` has nothing to say.
            assert status == 1
            assert "backend-02" in told
            assert "refuse this issuer's push key" in told
            assert "if another backend was promoted, run" in told
    assert road.lab.ca.orders() == orders
    assert held_by(road) == before
    assert old.sh(ETC) == own


def test_a_challenge_never_goes_to_the_old_issuer(road: Road) -> None:
    poll(lambda: challenges_go_to(road) == {"backend-02", "backend-03"})
    # The canary sees it too, as long as it is in the fleet: there is time to make a replica of it.
    orders = road.lab.ca.orders()
    ended = road.renew("--force")
    assert ended.status == 1
    assert "because a challenge would not reach the issuer: backend-01 " in ended.stderr
    assert road.lab.ca.orders() == orders


def test_the_same_command_again_makes_a_replica_of_it(road: Road) -> None:
    ended = road.certsync("promote", "backend-02")
    assert ended.status == 0, ended.everything
    assert road.generations() == dict.fromkeys(["backend-01", "backend-02", "backend-03"], "0003")
    assert road.lab.machine("backend-01").attempt("ls /etc/certsync/issuer")[0] != 0
    ended = road.renew("--force")
    assert ended.status == 0, ended.everything
    assert set(road.generations().values()) == {"0004"}
    assert road.pages() == {"backend-01", "backend-02", "backend-03"}


def test_a_replica_that_was_missed_gets_no_challenges_until_it_is_deployed_to(road: Road) -> None:
    missed = road.lab.machine("backend-03")
    missed.cut()
    try:
        ended = road.certsync("promote", "backend-01")
    finally:
        missed.join()
    assert ended.status == 1
    assert "backend-03: " in ended.stderr.split("error: ")[1]
    assert 'issuer = "backend-01"' in road.fleet_file.read_text()
    # It has come back, and still leads challenges to the issuer before.
    poll(lambda: challenges_go_to(road) == {"backend-01", "backend-02"})
    assert road.page() != ""
    # It does not fence the issuer, which it has never let in; the canary tells of it, and waits.
    ended = road.renew("--force")
    assert ended.status == 1
    assert "backend-03: its SSH host key is not known here" in ended.stderr
    assert "because a challenge would not reach the issuer: backend-03 " in ended.stderr
    assert "push key" not in ended.stderr
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    poll(lambda: challenges_go_to(road) == {"backend-01", "backend-02", "backend-03"})
    assert len(set(road.generations().values())) == 1


def challenges_go_to(road: Road) -> set[str]:
    """Return the backends that the balancer sends challenges to."""
    shown = road.lab.balancer.sh(
        "echo show stat | socat - /run/haproxy/admin.sock | grep ^challenge, | cut -d, -f2,18"
    )
    states = dict(line.split(",") for line in shown.split())
    return {name for name, state in states.items() if state.startswith("UP") and name != "BACKEND"}


def poll(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is true: the balancer looks every few seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)

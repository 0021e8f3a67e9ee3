"""A host at the other end of a long and lossy line: its part takes longer, and ends well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import Road


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet that nothing is deployed to yet."""
    with bring_up(Lab("faraway")) as lab:
        yield Road(lab, tmp_path_factory.mktemp("faraway"))


@pytest.fixture
def far(road: Road) -> Iterator[Machine]:
    """Return the replica that is far away."""
    machine = road.lab.machine("backend-03")
    with machine.slow(delay_ms=200, loss=0.05):
        yield machine


def everybody_serves_the_same(road: Road) -> None:
    leaves = [road.leaf(machine.address) for machine in road.lab.backends]
    assert leaves == leaves[:1] * 3


def test_a_first_deploy_reaches_a_host_that_is_far_away(road: Road, far: Machine) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    everybody_serves_the_same(road)
    assert f" server {far.name} " in road.haproxy_cfg()
    assert {"backend-01", "backend-02"} <= road.pages(9)


def test_a_second_deploy_changes_nothing_there(road: Road, far: Machine) -> None:
    before = far.sh("find /etc /usr/local -newer /etc/certsync -type f | sort")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert far.sh("find /etc /usr/local -newer /etc/certsync -type f | sort") == before
    everybody_serves_the_same(road)


def test_when_the_line_is_short_again_everybody_is_in_service(road: Road) -> None:
    assert road.deploy().status == 0
    assert road.pages(9) == {"backend-01", "backend-02", "backend-03"}

"""A fleet of the version before is deployed to by this one, while users are on it."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.suites import DEFAULT_SUITE, SUITES
from lab.world import CHECKOUT
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Tally, Target
from tests.e2e.road import NAME, Ended, Road

BEFORE = "1ff902c2a341"
"""The commit that fleets have been deployed with: the last one of the version before."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout of the version before, with the wheels for its issuers fetched."""
    folder = tmp_path_factory.mktemp("before")
    archive = subprocess.run(
        ["git", "-C", CHECKOUT, "archive", BEFORE], capture_output=True, check=True, timeout=60
    )
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True, timeout=60)
    runtime = SUITES[DEFAULT_SUITE].runtime
    assert runtime is not None
    words = ["fetch-wheels", runtime.python, platform.machine(), runtime.libc]
    subprocess.run(
        [sys.executable, "-m", "certsync", *words],
        cwd=folder, stdout=subprocess.DEVNULL, check=True, timeout=300,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def road(
    bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory, older: Path
) -> Iterator[Road]:
    """Return a fleet as the version before has deployed it."""
    with bring_up(Lab("upgrade")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("upgrade"))
        ended = by_the_older(road, older, "deploy")
        assert ended.status == 0, ended.everything
        yield road


def by_the_older(road: Road, older: Path, verb: str, *options: str) -> Ended:
    """Run one of the operator's commands as the version before does."""
    python = ["env", "-C", str(older), sys.executable, "-m", "certsync"]
    return road.operator(*python, verb, str(road.fleet_file), *options)


def load(road: Road) -> Load:
    """Return a load of new connections through the balancer."""
    target, address = Target(NAME, str(road.lab.ca.roots)), road.lab.balancer.address
    return Load(road.lab.operator_argv(), NEW, [address], target, pause=0.02)


def none_failed(tally: Tally) -> None:
    assert tally.watched
    assert tally.requests > 0
    assert tally.failed == {}


def test_a_deploy_of_this_version_fails_no_request(road: Road, older: Path) -> None:
    before = road.issuer.sh("readlink /opt/certsync/current")
    orders = road.lab.ca.orders()
    with load(road) as running:
        ended = road.deploy()
        tally = running.over()
    assert ended.status == 0, ended.everything
    none_failed(tally)
    assert road.issuer.sh("readlink /opt/certsync/current") != before
    assert road.lab.ca.orders() == orders
    # An operator who has not upgraded yet is told the same of the fleet.
    assert by_the_older(road, older, "status").status == 0


def test_a_second_one_changes_nothing(road: Road) -> None:
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr


def test_a_renewal_then_fails_no_request(road: Road) -> None:
    with load(road) as running:
        ended = road.renew("--force")
        tally = running.over()
    assert ended.status == 0, ended.everything
    none_failed(tally)
    assert set(road.generations().values()) == {"0002"}

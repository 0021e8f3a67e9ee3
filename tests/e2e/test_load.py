"""A constant load through the balancer over a whole renewal on three backends: nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.load import KEEP_ALIVE, NEW, Load, Seen, Tally, Target
from tests.e2e.road import LIVE, NAME, Ended, Road

REQUESTS = 5000
SIDE_BY_SIDE = re.compile(r"two generations were served side by side for \d+\.\d s")


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet of three backends."""
    with bring_up(Lab("load"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("load"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def leaf(road: Road) -> str:
    """Return the SHA-256 of the leaf that is live on the issuer."""
    told = road.issuer.sh(f"openssl x509 -in {LIVE}/cert.pem -noout -fingerprint -sha256")
    return told.strip().partition("=")[2].replace(":", "").lower()


def renewed_under_load(road: Road, kind: str, capsys: pytest.CaptureFixture[str]) -> Tally:
    """Renew, well, under a load that is one; print and return what happened to its requests."""
    target = Target(NAME, str(road.lab.ca.roots))
    balancer, before = road.lab.balancer.address, leaf(road)
    with Load(road.lab.operator_argv(), kind, [balancer], target, count=REQUESTS) as load:
        ended = road.renew("--force")
        tally = load.over()
    after, shown = leaf(road), tally.leaves[balancer]
    with capsys.disabled():
        print("", *described(ended, tally, shown.get(before), shown.get(after)), sep="\n")
    assert ended.status == 0, ended.everything
    assert SIDE_BY_SIDE.search(ended.stderr), ended.everything
    assert tally.watched, "the load ended before the renewal"
    assert tally.requests >= REQUESTS
    assert set(tally.backends) == {machine.name for machine in road.lab.backends}
    assert before != after
    assert set(shown) == {before, after}
    return tally


def described(ended: Ended, tally: Tally, old: Seen | None, new: Seen | None) -> Iterator[str]:
    """Return what was counted, and both views of the moment of mixed generations."""
    yield (
        f"{tally.requests} requests, {tally.failed.total()} failed, {tally.retried} sent once "
        f"more; answered by {dict(tally.backends)}"
    )
    if old and new:
        yield (
            f"{old.connections} connections were shown the old leaf, {new.connections} the new "
            f"one; from the first new one to the last old one: {old.last - new.first:.2f} s"
        )
    if line := SIDE_BY_SIDE.search(ended.stderr):
        yield line.group()


def test_with_a_new_connection_for_each_no_request_is_lost_in_a_renewal(
    road: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = renewed_under_load(road, NEW, capsys)
    assert tally.failed == {}
    assert tally.retried == 0


def test_on_kept_connections_no_request_is_lost_that_may_be_sent_once_more(
    road: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = renewed_under_load(road, KEEP_ALIVE, capsys)
    assert tally.failed == {}

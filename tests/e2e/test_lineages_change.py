"""A fleet of several lineages changes: who serves them, and who is the issuer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.road import NAME, Road

SHOP = "shop.example.net"
SHOP_TABLES = f"""\
[lineages.shop]
names = ["{SHOP}"]
served_by = ["backend-02", "backend-03"]

[balancers.balancer]
"""


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet whose second backend serves both lineages, and each other one of them."""
    with bring_up(Lab("linleave"), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("linleave"))
        road.edit("issuer =", 'served_by = ["backend-01", "backend-02"]\nissuer =')
        road.edit("[balancers.balancer]\n", SHOP_TABLES)
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


def test_one_that_serves_two_lineages_leaves_both(road: Road) -> None:
    roots, before = str(road.lab.ca.roots), road.lab.operator_argv()
    addresses = [road.lab.balancer.address]
    with ExitStack() as stack:
        loads = [
            stack.enter_context(
                Load(before, NEW, addresses, Target(name, roots), count=50, pause=0.02)
            )
            for name in (NAME, SHOP)
        ]
        ended = road.as_announced("remove-backend", "backend-02", "--drain-seconds", "5")
        assert ended.status == 0, ended.everything
        first, shop = (each.over() for each in loads)
    assert not first.failed
    assert not shop.failed
    text = road.fleet_file.read_text()
    assert 'served_by = ["backend-01"]' in text
    assert 'served_by = ["backend-03"]' in text
    assert road.lab.machine("backend-02").sh("ls /etc/certsync/live 2>/dev/null || :") == ""
    assert road.status()["findings"] == []


def test_who_serves_another_lineage_becomes_the_issuer_and_orders_the_rest_anew(
    road: Road,
) -> None:
    page = road.page()
    ended = road.as_announced("promote", "backend-03")
    assert ended.status == 0, ended.everything
    assert f"warning: backend-03 does not serve {NAME}, so it has no certificate" in ended.stderr
    # Nobody was taken out, and what is served is what was.
    assert road.page() == page
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert f"{NAME}: ordered generation 0002" in ended.stdout
    assert f"{NAME}: activated generation 0002 on backend-03, backend-01" in ended.stdout
    assert road.status()["findings"] == []
    assert road.pages() == {"backend-01"}


def test_who_comes_has_to_be_told_what_it_is_to_serve(road: Road) -> None:
    address = road.lab.machine("backend-02").address
    ended = road.certsync("add-backend", "backend-02", address)
    assert ended.status == 1
    assert "error: backend-02 would serve nothing: no served_by in " in ended.stderr
    assert f"hint: add --serves LINEAGE, one or more of: {NAME}" in (ended.stderr)
    ended = road.as_announced("add-backend", "backend-02", address, "--serves", NAME)
    assert ended.status == 0, ended.everything
    assert road.pages() == {"backend-01", "backend-02"}
    assert road.status()["findings"] == []
    assert "\n0 changes\n" in road.deploy().stderr

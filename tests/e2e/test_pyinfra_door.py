"""The other door: pyinfra's own command line walks the whole road too."""

from __future__ import annotations

from pathlib import Path

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import Road


def test_pyinfra_alone_goes_from_empty_hosts_to_the_same_state(
    bring_up: BringUp, tmp_path: Path
) -> None:
    with bring_up(Lab("door")) as lab:
        road = Road(lab, tmp_path)
        ended = road.operator("pyinfra", "-y", str(road.folder / "lab.py"), "deploy/site.py")
        assert ended.status == 0, ended.everything
        assert road.pages() == {machine.name for machine in lab.backends}
        orders = lab.ca.orders()
        again = road.deploy()
        assert again.status == 0, again.everything
        assert "\n0 changes\n" in again.stderr
        assert lab.ca.orders() == orders

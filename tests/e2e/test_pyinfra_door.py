"""The other door: pyinfra's own command line sets up a fleet end to end too."""

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
        interrupted_before_the_reload(road)
        assert road.page() == ""
        assert road.deploy().status == 0
        assert road.pages() == {machine.name for machine in lab.backends}
        assert "\n0 changes\n" in road.deploy().stderr


def interrupted_before_the_reload(road: Road) -> None:
    """Leave the balancer as a deploy does that ends between haproxy.cfg's rename and its reload."""
    road.lab.balancer.sh(
        "cd /etc/haproxy && cp -p haproxy.cfg /root/new.cfg && "
        "sed -i '/^frontend tls/,/default_backend tls$/d' haproxy.cfg && "
        "systemctl reload haproxy && sleep 1 && mv /root/new.cfg haproxy.cfg && "
        "touch /run/certsync-candidate.haproxy"
    )

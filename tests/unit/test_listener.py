"""What doubles' states mean for clients."""

from __future__ import annotations

from tests.doubles import digitalocean
from tests.doubles.digitalocean import DigitalOcean
from tests.doubles.linode import Linode
from tests.doubles.listener import Check, Listener, Target, of_digitalocean, of_linode

PASSED = {
    "entry_protocol": "https", "entry_port": 443, "target_protocol": "https", "target_port": 443,
    "tls_passthrough": True,
}  # fmt: skip
OPENED = {**PASSED, "entry_port": 8443, "tls_passthrough": False, "certificate_id": "892071a0"}


def at_digitalocean() -> DigitalOcean:
    double = DigitalOcean("token", lambda: 0)
    double.state["droplets"] = [
        digitalocean.droplet(1, "10.0.0.1"),
        digitalocean.droplet(2, "10.0.0.2", tags=["ours"]),
    ]
    double.state["balancer"] = digitalocean.balancer(
        forwarding_rules=[dict(digitalocean.HTTP), PASSED, OPENED], droplet_ids=[1]
    )
    return double


def test_digitaloceans_ports_have_the_same_droplets_and_the_same_check() -> None:
    check = Check("http", 80, "/up", seconds=7, bad=2, good=9, down_at_first=True)
    assert of_digitalocean(at_digitalocean().state) == [
        Listener(80, (Target("1", "10.0.0.1", 80),), http=True, check=check),
        Listener(443, (Target("1", "10.0.0.1", 443),), check=check),
    ]


def test_digitaloceans_tag_takes_the_place_of_ids_and_its_switch_is_for_all_ports() -> None:
    double = at_digitalocean()
    double.state["balancer"] |= {"tag": "ours", "enable_proxy_protocol": True}
    del double.state["balancer"]["health_check"]["proxy_protocol"]
    found = of_digitalocean(double.state)
    assert {each.targets[0].address for each in found} == {"10.0.0.2"}
    assert [each.proxy for each in found] == ["v1", "v1"]
    assert all(each.check and each.check.proxy for each in found)


def test_a_nodebalancers_ports_have_their_own_nodes_and_one_that_drains_takes_nothing_new() -> None:
    double = Linode(lambda: 0)
    balancer = double.balancer()
    web = double.config(balancer)
    tls = double.config(balancer, port=443, protocol="tcp", check="connection", proxy_protocol="v2")
    for config, address, mode in [
        (web, "192.168.1.1:80", "accept"),
        (tls, "192.168.1.1:8443", "accept"),
        (tls, "[2001:db8::2]:8443", "drain"),
        (tls, "192.168.1.3:8443", "reject"),
    ]:
        double.node(config, address, mode=mode)
    ids = [str(key) for key in double.state["nodes"]]
    check = Check("tcp", seconds=5, bad=3, good=1)
    assert of_linode(double.state) == [
        Listener(80, (Target(ids[0], "192.168.1.1", 80),), http=True),
        Listener(
            443,
            (
                Target(ids[1], "192.168.1.1", 8443),
                Target(ids[2], "2001:db8::2", 8443, takes=False),
            ),
            proxy="v2",
            check=check,
        ),
    ]

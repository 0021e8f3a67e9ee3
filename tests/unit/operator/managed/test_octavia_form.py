"""What Octavia's values mean. How it is driven is tested with its own API, in tests/octavia."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certsync.operator.balancer.managed import octavia_form as form
from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import MIXED_PORTS, NO_PORT, Check, Member, Rule


def listener(**changes: Any) -> Any:
    return SimpleNamespace(**{"protocol": "TCP", "is_admin_state_up": True, **changes})


def pool(**changes: Any) -> Any:
    usual = {"protocol": "TCP", "session_persistence": None, "lb_algorithm": "ROUND_ROBIN"}
    return SimpleNamespace(**{**usual, **changes})


def member(port: int = 443, **changes: Any) -> Any:
    usual = {
        "address": "10.0.0.1", "id": "m-1", "weight": 1, "is_admin_state_up": True,
        "backup": False, "operating_status": "ONLINE", "protocol_port": port,
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changes})


def balancer(**changes: Any) -> Any:
    usual = {"provisioning_status": "ACTIVE", "name": "web", "tags": [], "id": "0123456789"}
    return SimpleNamespace(**{**usual, **changes})


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ((None, None, [], None), None),
        ((listener(), None, [], None), Rule(NO_PORT)),
        ((listener(), pool(), [member()], None), Rule(443)),
        ((listener(), pool(protocol="PROXYV2"), [member(8443)], None), Rule(8443, "v2")),
        ((listener(), pool(protocol="PROXY"), [member(8443)], None), Rule(8443, "v1")),
        ((listener(), pool(), [member(443), member(8443)], None), Rule(MIXED_PORTS)),
        ((listener(), pool(), [], SimpleNamespace(type="TCP", url_path=None)),
         Rule(NO_PORT, check=Check("tcp", NO_PORT))),
        ((listener(), pool(), [], SimpleNamespace(type="HTTPS", url_path="/up")),
         Rule(NO_PORT, check=Check("https", NO_PORT, "/up"))),
    ],
)  # fmt: skip
def test_port_443s_rule(parts: tuple[Any, Any, list[Any], Any], rule: Rule | None) -> None:
    assert form.rule(*parts) == rule


@pytest.mark.parametrize(
    ("of", "to", "odd"),
    [
        (listener(protocol="TERMINATED_HTTPS"), pool(), "TLS is opened there"),
        (listener(is_admin_state_up=False), pool(), "switched off"),
        (listener(), pool(protocol="HTTP"), "protocol HTTP"),
        (listener(), pool(lb_algorithm="SOURCE_IP_PORT"), "stays with one member"),
        (listener(), pool(session_persistence={"type": "SOURCE_IP"}), "stays with one member"),
    ],
)
def test_what_keeps_it_from_passing_tls_through_is_odd(of: Any, to: Any, odd: str) -> None:
    found = form.rule(of, to, [member()], None)
    assert found is not None
    assert odd in found.odd[0]


@pytest.mark.parametrize(
    ("changes", "takes"),
    [({}, True), ({"weight": 0}, False), ({"is_admin_state_up": False}, False),
     ({"backup": True}, False)],
)  # fmt: skip
def test_a_member_takes_connections_or_not(changes: dict[str, Any], takes: bool) -> None:
    assert form.member(member(**changes)) == Member("10.0.0.1", "m-1", takes, "ONLINE")


def test_a_pool_fits_by_protocol_and_ports() -> None:
    proxy = Rule(8443, "v2")
    assert form.fits(pool(protocol="PROXYV2"), [member(8443)], proxy)
    assert form.fits(pool(protocol="PROXYV2"), [], proxy)
    assert not form.fits(None, [], proxy)
    assert not form.fits(pool(), [member(8443)], proxy)
    assert not form.fits(pool(protocol="PROXYV2"), [member(443)], proxy)


def test_our_pools_have_names_of_their_own_for_each_port_and_protocol() -> None:
    names = {form.pool_name(balancer(), each) for each in (Rule(443), Rule(8443, "v2"), Rule(9443))}
    assert len(names) == 3


def test_pending_is_busy_and_an_error_is_an_obstacle() -> None:
    assert form.busy(balancer(provisioning_status="PENDING_UPDATE")) == (
        "its status is PENDING_UPDATE"
    )
    assert form.busy(balancer()) == ""
    assert "ERROR" in next(form.obstacles(balancer(provisioning_status="ERROR")))
    assert list(form.obstacles(balancer())) == []


@pytest.mark.parametrize("marked", [{"name": "kube_service_prod_web_lb"}, {"tags": ["kubernetes"]}])
def test_a_clusters_marks_are_an_obstacle(marked: dict[str, Any]) -> None:
    assert "Kubernetes" in next(form.obstacles(balancer(**marked)))


def test_other_listeners_on_443_are_objections() -> None:
    assert list(form.objections([listener()])) == []
    assert "UDP" in next(form.objections([listener(protocol="UDP")]))
    assert "HTTPS" in next(form.objections([listener(protocol="TERMINATED_HTTPS")]))


def test_an_answer_in_another_form_is_told() -> None:
    with pytest.raises(ManagedError, match="not as documented"), form.as_documented():
        form.member(SimpleNamespace())

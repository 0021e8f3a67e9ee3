"""The haproxy.cfg that plays a provider's balancer on a lab."""

from __future__ import annotations

from dataclasses import replace

from tests.doubles.listener import Check, Listener, Target
from tests.e2e.provider_haproxy import going_down, text

ONE, TWO = Target("1", "10.0.0.1", 8443), Target("2", "2001:db8::2", 8443, takes=False)


def of(listener: Listener) -> list[str]:
    """Return what a configuration says of one listener, without the heads of its sections."""
    return [each.strip() for each in text([listener], "203.0.113.10", 7).splitlines()]


def test_a_target_gets_the_proxy_protocol_and_nothing_new_while_it_is_drained() -> None:
    lines = of(Listener(443, (ONE, TWO), proxy="v2", check=Check("tcp", seconds=5, bad=2, good=1)))
    assert "description 7" in lines
    assert "bind :::443 v4v6" in lines
    check = "check inter 5s fall 2 rise 1 no-check-send-proxy"
    assert lines[-2:] == [
        f"server 1 10.0.0.1:8443 send-proxy-v2 {check}",
        f"server 2 [2001:db8::2]:8443 weight 0 send-proxy-v2 {check}",
    ]


def test_requests_tell_who_asks_and_a_check_by_https_verifies_nothing() -> None:
    lines = of(Listener(80, (replace(ONE, port=80),), http=True, check=Check("https", 443, "/up")))
    assert "http-request set-header X-Forwarded-For %[src]" in lines
    assert "http-check send meth GET uri /up ver HTTP/1.1 hdr Host balancer" in lines
    assert lines[-1] == (
        "server 1 10.0.0.1:80 check inter 10s fall 3 rise 2 port 443 check-ssl verify none"
    )


def test_a_reload_makes_nothing_healthy() -> None:
    careful = Check("tcp", down_at_first=True)
    listeners = [Listener(80, (ONE, TWO), check=careful), Listener(443, (ONE,), check=careful)]
    assert going_down(listeners, {}) == [(80, "1"), (80, "2"), (443, "1")]
    # One that is new on a port is known from another.
    assert going_down(listeners, {(80, "1"): "UP"}) == [(80, "2")]
    hopeful = [Listener(80, (ONE, TWO), check=Check("tcp"))]
    assert going_down(hopeful, {(80, "1"): "DOWN"}) == [(80, "1")]
    assert going_down([Listener(80, (ONE,))], {(80, "1"): "DOWN"}) == []
    begins = text([Listener(443, (ONE,), check=careful)], "203.0.113.10", 7, [(443, "1")])
    assert "server 1 10.0.0.1:8443 weight 0 check " in begins


def test_targets_beside_are_checked_and_no_port_listens_for_them() -> None:
    careful = Check("tcp", down_at_first=True)
    lines = of(Listener(443, (ONE,), check=careful, beside=True))
    assert not any(each.startswith(("frontend", "bind")) for each in lines)
    assert "backend port-443-beside" in lines

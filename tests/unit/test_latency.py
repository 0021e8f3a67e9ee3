"""How soon what is sent to a host leaves."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deploy.latency import without_delay


def host(transport: object) -> Any:
    client = SimpleNamespace(get_transport=lambda: transport)
    return cast("Any", SimpleNamespace(connector=SimpleNamespace(client=client)))


def test_a_connection_of_our_own_waits_for_no_acknowledgement() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        assert not own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        without_delay(host(SimpleNamespace(sock=own)))
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("transport", [None, SimpleNamespace(sock=object())])
def test_through_another_host_or_without_a_connection_nothing_is_asked(transport: object) -> None:
    without_delay(host(transport))
    without_delay(cast("Any", SimpleNamespace(connector=SimpleNamespace())))

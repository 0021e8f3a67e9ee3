"""How soon what is sent to a host leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from paramiko import Transport

from certsync.operator.deployment import undelayed


class Channel:
    """What stands for a socket where a host is reached through another one."""

    def settimeout(self, seconds: float) -> None:
        """Take the time that paramiko waits."""


@pytest.fixture
def own() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        yield made


def test_a_connection_waits_for_no_acknowledgement_from_its_first_packet(
    own: socket.socket,
) -> None:
    assert not own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    made = undelayed.transport(own, gss_kex=False)
    assert isinstance(made, Transport)
    assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_through_another_host_nothing_is_asked_of_a_socket() -> None:
    made: Any = Channel()
    assert undelayed.transport(made).sock is made

"""Octavia's API, started once for all tests here, and a load balancer of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import openstack
import pytest

from tests.octavia.running import SUBNET, running


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where it answers."""
    folder = tmp_path_factory.mktemp("octavia")
    with running(folder) as address:
        yield address


@pytest.fixture
def cloud(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> openstack.connection.Connection:
    """Return the SDK's connection, by the environment's variables as a person sets them."""
    monkeypatch.setenv("OS_AUTH_TYPE", "admin_token")
    monkeypatch.setenv("OS_ENDPOINT", endpoint)
    monkeypatch.setenv("OS_TOKEN", "openstack-token-1f0c")
    return openstack.connect()


@pytest.fixture
def balancer(cloud: openstack.connection.Connection) -> str:
    """Return the id of a new load balancer."""
    made = cloud.load_balancer.create_load_balancer(
        name="web", vip_subnet_id=SUBNET, vip_address="203.0.113.10", project_id="1" * 32
    )
    cloud.load_balancer.wait_for_load_balancer(made.id, interval=0, wait=10)
    return str(made.id)

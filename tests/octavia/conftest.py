"""Octavia's API, started once for all tests here, and a load balancer of its own for each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import openstack
import pytest

ROOT = Path(__file__).parent.parent.parent
SUBNET = "3f3c5a3e-3f67-4f2b-bb2c-0c5f0f0f0f0f"


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where it answers."""
    folder = tmp_path_factory.mktemp("octavia")
    # Its packages are many, and want versions of their own.
    python = ROOT / ".venv-octavia/bin/python"
    words = [str(python), "-W", "ignore", "-m", "tests.octavia.server", str(folder), "0"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert child.stdout is not None
    try:
        port = next(line.split()[1] for line in child.stdout if line.startswith("up "))
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)


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

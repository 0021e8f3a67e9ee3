"""Which module drives which provider's balancer, and what is missing for it."""

from __future__ import annotations

import sys

import pytest

from certsync.model.options import Balancer, Provider
from certsync.operator.balancer.managed import providers
from certsync.operator.balancer.managed.errors import ManagedError, NoCredentialsError


def test_every_provider_that_is_driven_has_a_module() -> None:
    assert set(providers.MODULES) == {each for each in Provider if each.is_driven}


def test_without_a_token_the_variable_is_named() -> None:
    for provider, variable in (
        (Provider.DIGITALOCEAN, "DIGITALOCEAN_TOKEN"), (Provider.LINODE, "LINODE_TOKEN"),
        (Provider.HETZNER, "HCLOUD_TOKEN"),
    ):  # fmt: skip
        with pytest.raises(NoCredentialsError, match=f"^{variable} is not set$") as caught:
            providers.connect(Balancer(provider, load_balancer="7"), {})
        assert caught.value.hint.startswith(f"export {variable}")


def test_a_token_is_not_sent_without_tls() -> None:
    environment = {"LINODE_TOKEN": "t", "LINODE_URL": "http://203.0.113.9"}
    with pytest.raises(ManagedError, match="no https:// URL"):
        providers.connect(Balancer(Provider.LINODE, load_balancer="7"), environment)


def test_a_package_that_is_missing_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openstack", None)
    monkeypatch.delitem(sys.modules, "certsync.operator.balancer.managed.octavia", raising=False)
    with pytest.raises(ManagedError, match="packages that are not installed") as caught:
        providers.connect(Balancer(Provider.OPENSTACK, load_balancer="7"), {})
    assert "'certsync-fleet[deploy,openstack]'" in caught.value.hint

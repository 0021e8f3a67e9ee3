"""Which module drives which provider's balancer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from certsync.model.options import Balancer
from certsync.model.options import Provider as Name
from certsync.operator.balancer.managed.errors import ManagedError
from certsync.operator.balancer.managed.port import Provider

MODULES = {
    Name.AWS: "aws",
    Name.DIGITALOCEAN: "digitalocean",
    Name.HETZNER: "hetzner",
    Name.LINODE: "linode",
    Name.OPENSTACK: "octavia",
    Name.OUTSCALE: "outscale",
}

PACKAGES = {"boto3", "botocore", "hcloud", "openstack"}
"""Packages that only some providers need: certsync's extra of the provider's name brings them."""


def connect(of: Balancer, environment: Mapping[str, str]) -> Provider:
    """Return the provider's balancer that a fleet file names; nothing is asked yet.

    ``environment`` has the credentials.

    Raises:
        ManagedError: credentials or a package are missing.
    """
    try:
        module = import_module(f"certsync.operator.balancer.managed.{MODULES[of.provider]}")
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise ManagedError(
            f"{of.provider.value} needs Python packages that are not installed ({error.name})",
            f"pipx install --force 'certsync-fleet[deploy,{of.provider.value}]'",
        ) from None
    opened: Callable[[str, Mapping[str, str]], Provider] = module.connect
    return opened(of.load_balancer, environment)

"""All providers that the end-to-end tests have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab import Lab
from tests.e2e.clouds import Provider, at_digitalocean, at_hetzner, at_linode
from tests.e2e.clouds_aws import at_aws
from tests.e2e.clouds_openstack import at_openstack
from tests.e2e.clouds_outscale import at_outscale
from tests.octavia.running import PYTHON

PROVIDERS: Mapping[str, Callable[[Lab], Provider]] = {
    "digitalocean": at_digitalocean,
    "aws": at_aws,
    "hetzner": at_hetzner,
    # Octavia is a large download, so that only `script/test --all` makes sure that it is there.
    **({"openstack": at_openstack} if PYTHON.exists() else {}),
    "outscale": at_outscale,
    "linode": at_linode,
}

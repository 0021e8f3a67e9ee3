"""All providers that the end-to-end tests have."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab import Lab
from tests.e2e.clouds import Provider, at_digitalocean, at_hetzner, at_linode
from tests.e2e.clouds_aws import at_aws

PROVIDERS: Mapping[str, Callable[[Lab], Provider]] = {
    "digitalocean": at_digitalocean,
    "aws": at_aws,
    "hetzner": at_hetzner,
    "linode": at_linode,
}

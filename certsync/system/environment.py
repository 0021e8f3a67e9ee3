"""What other programs get of this process's environment."""

from __future__ import annotations

import os

CREDENTIALS = (
    "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN", "LINODE_TOKEN", "HCLOUD_TOKEN",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "OSC_ACCESS_KEY", "OSC_SECRET_KEY",
    "OS_PASSWORD", "OS_TOKEN", "OS_APPLICATION_CREDENTIAL_SECRET",
)  # fmt: skip
"""Variables that providers' tools read. ssh may be configured to send any variable to a host
(SendEnv, ssh_config(5)), and a deploy's own code has no use for them."""


def without_credentials() -> dict[str, str]:
    """Return this process's environment without a provider's credentials."""
    return {name: value for name, value in os.environ.items() if name not in CREDENTIALS}

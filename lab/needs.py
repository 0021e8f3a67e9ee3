"""What a lab needs on this machine, and the error that names what is missing."""

from __future__ import annotations

import os
import shutil

from lab.errors import LabError

PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "dpkg-scanpackages": "dpkg-dev",
    "dpkg-deb": "dpkg",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "curl": "curl",
}
"""The Debian package of each tool."""


def missing_packages() -> list[str]:
    """Return the Debian packages of missing tools, sorted."""
    return sorted({package for tool, package in PACKAGES.items() if shutil.which(tool) is None})


def require() -> None:
    """Check that a lab can be brought up here.

    Raises:
        LabError: not root, or a tool is missing.
    """
    if os.geteuid() != 0:
        raise LabError(
            "a lab needs root: it makes network namespaces and boots systemd-nspawn hosts",
            "run it again with sudo",
        )
    if missing := missing_packages():
        raise LabError(
            f"tools are missing: {' '.join(missing)}",
            f"apt-get install --no-install-recommends {' '.join(missing)}",
        )

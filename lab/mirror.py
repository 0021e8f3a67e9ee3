"""Where this machine takes its Debian packages from: read from apt, written down nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import LabError
from lab.shell import run

KEYRINGS = (Path("/usr/share/keyrings"), Path("/etc/apt/trusted.gpg.d"))


def debian_mirror() -> str:
    """Return the address of a Debian mirror, as apt on this machine is configured.

    ``CERTSYNC_LAB_MIRROR`` overrides it, for machines whose apt knows no Debian mirror.

    Raises:
        LabError: apt names none.
    """
    if override := os.environ.get("CERTSYNC_LAB_MIRROR"):
        return override
    if found := _configured():
        return found
    # An image of a machine often comes without apt's lists, and those name the origin.
    run(["apt-get", "-qq", "update"], timeout=300)
    if found := _configured():
        return found
    raise LabError(
        "apt on this machine names no Debian mirror",
        "on another distribution set CERTSYNC_LAB_MIRROR to a Debian mirror",
    )


def _configured() -> str:
    listing = run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(COMPONENT)",
         "Created-By: Packages"]
    )  # fmt: skip
    for line in listing.splitlines():
        origin, uri, component = line.split("|")
        if origin == "Debian" and component == "main" and "security" not in uri:
            return uri
    return ""


def keyring_folder() -> Path:
    """Return the folder with Debian's archive keys, for suites this machine does not run itself."""
    for folder in KEYRINGS:
        if any(folder.glob("debian-archive-*")):
            return folder
    raise LabError("Debian's archive keys are missing", "apt-get install debian-archive-keyring")

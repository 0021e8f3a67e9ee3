"""The Debian mirror that this machine uses, read from apt's configuration."""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import LabError
from lab.shell import run

KEYRINGS = (Path("/usr/share/keyrings"), Path("/etc/apt/trusted.gpg.d"))


def debian_mirror() -> str:
    """Return the URL of the Debian mirror in this machine's apt configuration.

    ``CERTSYNC_LAB_MIRROR`` overrides it, for machines whose apt has no Debian mirror.

    Raises:
        LabError: apt has none.
    """
    if override := os.environ.get("CERTSYNC_LAB_MIRROR"):
        return override
    if found := _configured():
        return found
    # Machine images often come without apt's lists, which name the origin.
    run(["apt-get", "-qq", "update"], timeout=300)
    if found := _configured():
        return found
    raise LabError(
        "apt on this machine has no Debian mirror",
        "on another distribution, set CERTSYNC_LAB_MIRROR to a Debian mirror",
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


def source(suite: str, *options: str) -> str:
    """Return apt's line for a suite on that mirror, with options for it.

    A testing suite's index is valid for a week, and a mirror may lag by more.
    """
    given = " ".join(("check-valid-until=no", *options))
    return f"deb [{given}] {debian_mirror()} {suite} main"


def hint(suite: str) -> str:
    """Return what to do if a suite cannot be downloaded."""
    return (
        f"is this machine's Debian mirror reachable, and does it have {suite}? try apt-get update, "
        "or set CERTSYNC_LAB_MIRROR to a mirror that has it"
    )


def keyring_folder() -> Path:
    """Return the folder with Debian's archive keys, which verify the other suites."""
    for folder in KEYRINGS:
        if any(folder.glob("debian-archive-*")):
            return folder
    raise LabError("Debian's archive keys are missing", "apt-get install debian-archive-keyring")

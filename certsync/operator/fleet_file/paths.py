"""Rules for the files on the operator's machine that a fleet file names.

They read the file system and change nothing.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from certsync.operator.fleet_file.rules import UnfitError, quoted

UNSAFE_FOR_SSH = set("\"'`;$%\\")
"""OpenSSH expands `%` and `$` in file names, and splits them at white space."""


def absolute(value: str, folder: Path) -> Path:
    """Return the absolute path for a value: relative to the fleet file's folder, `~` expanded."""
    if not value or not value.isprintable():
        raise UnfitError(f"{quoted(value)} is not a file path")
    try:
        return (folder / Path(value).expanduser()).absolute()
    except RuntimeError:
        raise UnfitError(f"{quoted(value)} is in the home of an unknown user") from None


def existing_file(value: str, folder: Path) -> str:
    """Return the absolute path of an existing file."""
    path = absolute(value, folder)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise UnfitError(f"{quoted(str(path))} cannot be read: {reason(error)}") from None
    if is_folder:
        raise UnfitError(f"{quoted(str(path))} is a folder", "name a file")
    if not is_file:
        raise UnfitError(
            f"there is no file {quoted(str(path))}",
            "relative paths start at the fleet file's folder",
        )
    return str(path)


def ssh_file(value: str, folder: Path) -> str:
    """Return the absolute path of a file, safe to pass to OpenSSH."""
    path = existing_file(value, folder)
    if any(char.isspace() or char in UNSAFE_FOR_SSH for char in path):
        raise UnfitError(
            f"{quoted(path)} has characters that are special to OpenSSH",
            "move it to a path without white space, quotes or ; $ % \\",
        )
    return path


def certificate_file(value: str, folder: Path) -> str:
    """Return the absolute path of a PEM file with certificates and no private key."""
    path = existing_file(value, folder)
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise UnfitError(f"{quoted(path)} cannot be read: {reason(error)}") from None
    # Roots are copied to the balancers, which must never have a private key.
    if b"PRIVATE KEY-----" in pem:
        raise UnfitError(
            f"{quoted(path)} contains a private key", "use a file with certificates only"
        )
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnfitError(
            f"{quoted(path)} contains no PEM certificate",
            "it needs at least one -----BEGIN CERTIFICATE----- block",
        ) from None
    return path


def own_templates(folder: Path) -> str:
    """Return the absolute path of a fleet's own templates; empty: there are none."""
    found = (folder / "templates").absolute()
    return str(found) if found.is_dir() else ""


def reason(error: OSError) -> str:
    """Return the system's error text in the style of our messages."""
    return (error.strerror or str(error)).lower()

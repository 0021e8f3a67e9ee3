"""The files on the operator's machine that a fleet file names: where they lie, and what they hold.

The rules here look at the file system and change nothing.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from certsync.operator.fleet_file.rules import UnfitError, quoted

UNSAFE_FOR_SSH = set("\"'`;$%\\")
"""OpenSSH expands `%` and `$` in the names of its files, and splits them at white space."""


def absolute(value: str, folder: Path) -> Path:
    """Return the path meant by a value, relative to the fleet file's folder, `~` expanded."""
    if not value or not value.isprintable():
        raise UnfitError(f"{quoted(value)} is no path of a file")
    try:
        return (folder / Path(value).expanduser()).absolute()
    except RuntimeError:
        raise UnfitError(f"{quoted(value)} is in the home of nobody here") from None


def existing_file(value: str, folder: Path) -> str:
    """Return the absolute path of a file that is there."""
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
            "a relative path starts at the fleet file's folder",
        )
    return str(path)


def ssh_file(value: str, folder: Path) -> str:
    """Return the absolute path of a file that OpenSSH can be told about."""
    path = existing_file(value, folder)
    if any(char.isspace() or char in UNSAFE_FOR_SSH for char in path):
        raise UnfitError(
            f"{quoted(path)} has characters that OpenSSH reads as its own",
            "move it to a path without white space, quotes and ; $ % \\",
        )
    return path


def certificate_file(value: str, folder: Path) -> str:
    """Return the absolute path of a PEM file that holds certificates and no private key."""
    path = existing_file(value, folder)
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise UnfitError(f"{quoted(path)} cannot be read: {reason(error)}") from None
    # Roots are copied to the balancers, where no private key may ever be.
    if b"PRIVATE KEY-----" in pem:
        raise UnfitError(
            f"{quoted(path)} holds a private key", "name a file that holds only certificates"
        )
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UnfitError(
            f"{quoted(path)} holds no PEM certificate",
            "it needs -----BEGIN CERTIFICATE----- and what follows",
        ) from None
    return path


def own_templates(folder: Path) -> str:
    """Return the folder of a fleet's own templates, absolute; empty: there is none."""
    found = (folder / "templates").absolute()
    return str(found) if found.is_dir() else ""


def reason(error: OSError) -> str:
    """Return what the system says about a file, as our messages say it."""
    return (error.strerror or str(error)).lower()

"""Challenge files (RFC 8555 section 8.3): published while the CA validates, always removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from certsync.model.errors import StoreError

WELL_KNOWN = Path(".well-known/acme-challenge")


def challenge_folder(webroot: Path) -> Path:
    """Return the folder of challenge files. Everything in it is ours."""
    return webroot / WELL_KNOWN


@contextmanager
def present(webroot: Path, files: Mapping[str, str]) -> Iterator[None]:
    """Serve the files, name to content, inside the block.

    What a killed run left there is removed first.

    Raises:
        StoreError: the webroot cannot be written.
    """
    folder = challenge_folder(webroot)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (webroot, webroot / ".well-known", folder):
            path.chmod(0o755)
        clear(webroot)
        for name, content in files.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o644)
        yield
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        clear(webroot)


def clear(webroot: Path) -> None:
    """Remove every challenge file."""
    for path in challenge_folder(webroot).glob("*"):
        path.unlink(missing_ok=True)

"""The wheels that install certsync on an issuer without access to a package index.

certsync's own wheel is made from the package as it runs here, from a checkout or an installed
distribution. The others are downloaded for the issuer's Python and machine, checked against the
hashes in issuer-requirements.txt, and cached. An issuer that sends notifications gets the larger
set of notify-requirements.txt instead.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import certsync
from certsync import __version__
from certsync.model.errors import HostError
from certsync.system import process
from certsync.system.process import printable

PACKAGE = Path(certsync.__file__).resolve().parent
REQUIREMENTS = Path(__file__).with_name("issuer-requirements.txt")
NOTIFY_REQUIREMENTS = Path(__file__).with_name("notify-requirements.txt")
DISTRIBUTION = "certsync_fleet"
DATE = (2020, 1, 1, 0, 0, 0)
"""The date of every file in the wheel, so that the same sources make the same wheel."""

FOR_ISSUERS = ("issuer", "model", "programs", "system")
"""The packages an issuer gets. Changes elsewhere do not change its release."""

OLDEST_MANYLINUX = 17


TARGET = {
    "python": re.compile(r"3\.[0-9]{1,2}"),
    "machine": re.compile(r"[a-z0-9_]{1,16}"),
    "libc": re.compile(r"2\.[0-9]{1,3}"),
}
"""What a host may report about itself: it becomes part of a path here."""


@dataclass(frozen=True)
class Target:
    """What the issuer runs."""

    python: str
    """Major and minor, `3.13`."""

    machine: str
    """As `uname -m` prints it, `x86_64`."""

    libc: str
    """glibc's version, `2.41`."""

    notify: bool = False
    """Whether it sends notifications."""

    def __post_init__(self) -> None:
        """Refuse invalid values.

        Raises:
            HostError: a value does not match its pattern.
        """
        for name, pattern in TARGET.items():
            if not pattern.fullmatch(value := getattr(self, name)):
                raise HostError(
                    f"the issuer reports {printable(value)!r} as its {name}; there are no wheels "
                    "for that",
                    "it needs Python 3.10 or newer on glibc, as in Debian and Ubuntu",
                )

    @property
    def requirements(self) -> Path:
        """The file with its pinned packages."""
        return NOTIFY_REQUIREMENTS if self.notify else REQUIREMENTS


def sources() -> dict[str, bytes]:
    """Return the files of the package that an issuer gets, by path in the wheel."""
    top = (PACKAGE / name for name in ("__init__.py", "__main__.py", "main.py"))
    rooms = (path for room in FOR_ISSUERS for path in (PACKAGE / room).rglob("*.py"))
    return {
        str(path.relative_to(PACKAGE.parent)): path.read_bytes() for path in sorted([*top, *rooms])
    }


def release(*, notify: bool = False) -> str:
    """Return the name of this package's release on an issuer.

    With notifications it is a different release, so that turning them on builds a new environment.
    """
    total = hashlib.sha256()
    for path, content in sources().items():
        total.update(path.encode() + b"\0" + content)
    return f"{__version__}-{total.hexdigest()[:12]}{'-notify' if notify else ''}"


def fetched(target: Target) -> bool:
    """Return whether `bring` would download nothing."""
    return (_folder(target) / "complete").exists()


def bring(target: Target) -> list[Path]:
    """Return the wheels to install, including certsync's own.

    Raises:
        HostError: pip cannot download the others.
    """
    folder = _folder(target)
    if not fetched(target):
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(target, folder)
        (folder / "complete").touch()
    own = folder / f"{DISTRIBUTION}-{__version__}-py3-none-any.whl"
    write_wheel(own)
    return sorted(folder.glob("*.whl"))


def _folder(target: Target) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    pins = hashlib.sha256(target.requirements.read_bytes()).hexdigest()[:12]
    name = f"{target.python}-{target.machine}-{target.libc}-{pins}"
    return Path(base) / "certsync" / "wheels" / name


def _fetch(target: Target, folder: Path) -> None:
    done = process.run([sys.executable, "-m", "pip", *pip_arguments(target, folder)], seconds=600)
    if done.status != 0:
        raise HostError(
            f"the issuer's Python packages cannot be downloaded: {done.error_summary}",
            "this machine needs pip and access to a Python package index once; to deploy offline, "
            f"run this beforehand: certsync fetch-wheels {target.python} {target.machine} "
            f"{target.libc}",
        )


def pip_arguments(target: Target, folder: Path) -> list[str]:
    """Return pip's arguments to download the pinned wheels for another machine."""
    short = target.python.replace(".", "")
    newest = int(target.libc.split(".")[1])
    platforms = [
        f"manylinux_2_{minor}_{target.machine}" for minor in range(newest, OLDEST_MANYLINUX - 1, -1)
    ]
    argv = [
        "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--dest", str(folder), "--python-version", target.python,
        "--implementation", "cp", "--abi", f"cp{short}", "--abi", "abi3", "--abi", "none",
    ]  # fmt: skip
    for platform in (*platforms, f"manylinux2014_{target.machine}"):
        argv += ["--platform", platform]
    return [*argv, "--requirement", str(target.requirements)]


def write_wheel(path: Path) -> None:
    """Write certsync's own wheel (PEP 427) atomically."""
    info = f"{DISTRIBUTION}-{__version__}.dist-info"
    files = sources()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: certsync-fleet\nVersion: {__version__}\n"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: certsync\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\ncertsync = certsync.main:main\n"
    record = "".join(f"{name},{_record(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    unfinished = path.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, DATE), content)
    unfinished.replace(path)


def _record(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(content)}"

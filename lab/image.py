"""The image that every host of a lab starts from, built once per suite and cached.

It contains what a cloud image contains: no nginx, no HAProxy. The packages that deploys install are
in /srv/apt, so that `apt install` on a host is real and works offline.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError
from lab.mirror import hint, keyring_folder, source
from lab.shell import run, say, watch
from lab.suites import SUITES, Runtime, Suite

CACHE = Path(os.environ.get("CERTSYNC_LAB_CACHE", "/var/cache/certsync-lab"))


PEBBLE_SUITE = "forky"
"""Pebble in Debian 12 and 13 has no ARI and no profiles; this suite's 2.10 runs on both."""

INSTALLED = (
    "systemd,systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,ca-certificates,curl,procps,"
    "openssl,cron,ufw,iptables"
)
"""The image's packages: those of Debian's and Ubuntu's cloud images, and UFW."""

OFFERED = (
    "nginx haproxy keepalived rsync socat python3-venv apache2 logrotate shellcheck faketime "
    "certbot"
)
"""The packages that apt on a host can install."""

UNITS = {
    "etc/systemd/system/lab-hostkeys.service": """\
[Unit]
Description=SSH host keys of this host's own
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
""",
    # A cloud image's user: passwordless sudo for everything.
    "etc/sudoers.d/admin": "admin ALL=(ALL) NOPASSWD: ALL\n",
    # The lab is offline and takes its name servers only from /etc/resolv.conf.
    "etc/apt/apt.conf.d/99lab": 'Acquire::Languages "none";\nAPT::Periodic::Enable "0";\n',
}

SETUP = r"""
set -eu
root=$1
chroot "$root" useradd --create-home --shell /bin/bash admin
install -d -o 1000 -g 1000 -m 700 "$root/home/admin/.ssh"
chroot "$root" apt-get install -y --download-only --no-install-recommends $OFFERED
mkdir -p "$root/srv/apt"
mv "$root"/var/cache/apt/archives/*.deb "$root/srv/apt/"
(cd "$root/srv/apt" && dpkg-scanpackages --multiversion . > Packages)
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/apt ./' > "$root/etc/apt/sources.list"
cp -r "$UNITS/." "$root/"
chmod 440 "$root/etc/sudoers.d/admin"
chroot "$root" systemctl enable lab-hostkeys.service
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer logrotate.timer
chroot "$root" apt-get update
rm -f "$root"/etc/hostname "$root"/etc/machine-id "$root"/etc/resolv.conf
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
"""
"""Runs outside the new root once its packages are installed. User ids are those of the image."""


def recipe(suite: str) -> str:
    """Return twelve hex digits that change when the image's ingredients change."""
    own = SUITES[suite]
    parts = [suite, *_packages(suite), SETUP + own.setup, *UNITS, *UNITS.values()]
    if own.second:
        parts += [own.second, own.preferences]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _packages(suite: str) -> tuple[str, str]:
    """Return a suite's installed and offered packages."""
    own = SUITES[suite]
    return (
        ",".join(filter(None, (INSTALLED, own.installed))),
        " ".join(filter(None, (OFFERED, own.offered))),
    )


def image_path(suite: str) -> Path:
    """Return where a suite's image is, or would be.

    Raises:
        LabError: the suite is unknown.
    """
    if suite not in SUITES:
        raise LabError(f"unknown suite {suite!r}", f"use one of: {', '.join(SUITES)}")
    return CACHE / f"{suite}-{recipe(suite)}"


def image(suite: str) -> Path:
    """Return the root folder of a suite's image; build it if it does not exist yet.

    Raises:
        LabError: the suite is unknown, or the build fails; the message has the log's tail.
    """
    root = image_path(suite)
    with _one_at_a_time():
        if not root.exists():
            _build(suite, root)
            _drop_older(suite, root)
    return root


def runtime(suite: str) -> Runtime:
    """Return the Python and glibc of a suite's image; build it if it does not exist yet."""
    ask = (
        "import os, sys; print('%d.%d' % sys.version_info[:2], "
        "os.confstr('CS_GNU_LIBC_VERSION').split()[-1])"
    )
    python, libc = run(["chroot", image(suite), "python3", "-ISc", ask]).split()
    return Runtime(python, libc)


def pebble() -> Path:
    """Return a folder with `pebble` and `pebble-challtestsrv`; download them once."""
    folder = CACHE / "pebble"
    with _one_at_a_time():
        if not (folder / "usr/bin/pebble").exists():
            _fetch_pebble(folder)
    return folder / "usr/bin"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(suite: str, root: Path) -> None:
    say(f"building the {suite} image, once ({root})")
    log = CACHE / f"{suite}.log"
    log.unlink(missing_ok=True)
    units = CACHE / "units"
    shutil.rmtree(units, ignore_errors=True)
    for name, text in UNITS.items():
        (units / name).parent.mkdir(parents=True, exist_ok=True)
        (units / name).write_text(text)
    installed, offered = _packages(suite)
    own = SUITES[suite]
    hook = CACHE / "setup.sh"
    hook.write_text(f"OFFERED='{offered}'\nUNITS='{units}'\n{SETUP}{own.setup}")
    unfinished = root.with_suffix(".part")
    forget(unfinished)
    watch(
        ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={installed}",
         f"--keyring={keyring_folder()}", "--skip=cleanup/apt/lists", *_preferring(own),
         f'--customize-hook=sh {hook} "$1"', suite, unfinished,
         *(source(each) for each in (suite, own.second) if each)],
        label=f"building the {suite} image",
        log=log,
        hint=hint(suite),
    )  # fmt: skip
    unfinished.rename(root)


def _preferring(suite: Suite) -> list[str]:
    if not suite.preferences:
        return []
    preferences = CACHE / "preferences"
    preferences.write_text(suite.preferences)
    return [f'--setup-hook=install -D -m 644 {preferences} "$1/etc/apt/preferences.d/lab"']


def _drop_older(suite: str, keep: Path) -> None:
    for older in CACHE.glob(f"{suite}-*"):
        if older != keep and older.is_dir() and not in_use(older):
            forget(older)


def in_use(root: Path) -> bool:
    """Return whether a running host has its disk on this folder or below it."""
    return str(root) in Path("/proc/self/mountinfo").read_text()


def forget(root: Path) -> None:
    """Remove a folder of the cache if it exists, but nothing that is mounted in it."""
    if root.exists():
        run(["rm", "-rf", "--one-file-system", root])


def _fetch_pebble(folder: Path) -> None:
    say(f"downloading Pebble from Debian {PEBBLE_SUITE}, once")
    work = folder.with_suffix(".part")
    forget(work)
    (work / "lists/partial").mkdir(parents=True)
    sources = work / "sources.list"
    keys = keyring_folder()
    ring = next(
        (ring for ring in (keys / "debian-archive-keyring.gpg",) if ring.exists()),
        next(keys.glob("debian-archive-*")),
    )
    sources.write_text(f"{source(PEBBLE_SUITE, f'signed-by={ring}')}\n")
    options = [
        f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-",
        f"Dir::State::Lists={work / 'lists'}", "Dir::State::status=/dev/null",
        f"Dir::Cache={work}", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get"]
    for option in options:
        apt += ["-o", option]
    run([*apt, "update"], timeout=300, hint=hint(PEBBLE_SUITE))
    done = subprocess.run(
        [*apt, "download", "pebble"], cwd=work, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise LabError(f"Pebble cannot be downloaded: {done.stderr.strip()}", hint(PEBBLE_SUITE))
    package = next(work.glob("pebble_*.deb"))
    unpacked = work / "unpacked"
    run(["dpkg-deb", "--extract", package, unpacked])
    unpacked.rename(folder)
    forget(work)

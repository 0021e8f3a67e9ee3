"""The suites that a lab's hosts can be of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Runtime:
    """A Python and glibc, as arguments of `certsync fetch-wheels`."""

    python: str
    """Major and minor."""

    libc: str
    """glibc's version."""


@dataclass(frozen=True)
class Suite:
    """A Debian suite, and what is particular to its image."""

    runtime: Runtime | None
    """The lab is offline, so its issuers' wheels are downloaded beforehand, by this. None: it still
    changes, and `lab.image.runtime` asks the image."""

    installed: str = ""
    """Packages of the image that only this suite needs, separated by commas."""

    offered: str = ""
    """The same for packages that apt on a host can install, separated by spaces."""

    setup: str = ""
    """Shell that runs last while its image is built; `$root` is the new root."""

    second: str = ""
    """Another suite that some packages come from; empty: none."""

    preferences: str = ""
    """Which ones, in apt's words."""


# systemd 258 and newer does not start on a machine with version 1 control groups.
OLDER_SYSTEMD = """\
Package: *
Pin: release n=trixie
Pin-Priority: 100

Package: systemd systemd-* libsystemd* udev libudev* libpam-systemd libnss-systemd
Pin: release n=trixie
Pin-Priority: 1001
"""

LIKE_UBUNTU = r"""
ln -sf sudo-rs "$root/usr/bin/sudo"
ln -sf /usr/bin/visudo-rs "$root/usr/sbin/visudo"
for tool in "$root"/usr/lib/cargo/bin/coreutils/*; do
    for folder in usr/bin usr/sbin; do
        name=$folder/${tool##*/}
        [ ! -e "$root/$name" ] || ln -sf /usr/bin/coreutils "$root/$name"
    done
done
# Debian's sudo no longer looks in /usr/local since July 2026.
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin
sed -i "s|^Defaults secure_path=.*|Defaults secure_path=\"$path\"|" "$root/etc/sudoers"
rm "$root/etc/apt/preferences.d/lab"
cat > "$root/usr/lib/os-release" <<END
PRETTY_NAME="Debian forky in place of Ubuntu 26.04"
NAME="Ubuntu"
VERSION_ID="26.04"
VERSION_CODENAME=forky
ID=ubuntu
ID_LIKE=debian
END
"""
"""What Ubuntu 26.04 has by default: sudo-rs as sudo, and uutils instead of GNU's coreutils."""

SUITES = {
    "bookworm": Suite(Runtime(python="3.11", libc="2.36")),
    "trixie": Suite(Runtime(python="3.13", libc="2.41")),
    "forky": Suite(
        runtime=None,
        installed="sudo-rs,rust-coreutils",
        offered="openssh-client",  # No dependency of openssh-server any more.
        setup=LIKE_UBUNTU,
        second="trixie",
        preferences=OLDER_SYSTEMD,
    ),
}
"""Debian 12 and 13, and Debian testing in place of Ubuntu 26.04, whose servers, Python, OpenSSL and
OpenSSH are as new: it is on the mirror that the lab uses anyway."""

DEFAULT_SUITE = "trixie"

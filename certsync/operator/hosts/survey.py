"""The survey of a host: all that a deploy needs to know, read by one command. Pure.

`check --online` and the deploys run the script as root; `parse` reads its output. The output comes
from another machine and is not trusted: invalid lines are ignored.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from certsync.operator.hosts import facts
from certsync.operator.hosts.facts import HostFacts
from certsync.programs import text_of


def script() -> str:
    """Return the survey script, which runs as root on a host."""
    return text_of("survey.sh")


LARGEST = 512 * 1024
"""The largest file that we could have written, in bytes; a larger one is not ours."""


@dataclass(frozen=True)
class Entry:
    """A file, folder or link on a host."""

    kind: str
    """As find(1) prints it: `f`, `d`, `l`, or another type."""

    mode: str = ""
    """Octal, `644`."""

    owner: str = ""
    group: str = ""
    text: str | None = None
    """None: not read, or too large."""

    target: str = ""
    """A link's target, if it was read."""

    size: int = 0


@dataclass(frozen=True)
class Unit:
    """A systemd unit."""

    active: str
    """`active`, `failed` and so on: systemctl(1), `is-active`."""

    enabled: str
    """`enabled`, `disabled` and so on; empty: there is none."""

    is_outdated: bool
    """Whether systemd needs a daemon-reload to see the file on disk."""

    files: str = ""
    """Its limit of open files, or `infinity`."""

    @property
    def runs(self) -> bool:
        """Whether it runs and is enabled at boot."""
        return self.active in ("active", "reloading") and self.enabled == "enabled"


NO_UNIT = Unit("inactive", "", is_outdated=False)


@dataclass(frozen=True)
class Survey:
    """The state of a host."""

    facts: HostFacts = field(default_factory=HostFacts)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """By path."""

    packages: frozenset[str] = frozenset()
    """Those of the packages we need that are installed and configured."""

    users: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Home and shell by name."""

    units: Mapping[str, Unit] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    """UFW's rules, as `ufw show added` prints them, without the leading `ufw`."""

    addresses: tuple[tuple[str, str], ...] = ()
    """Interface and address, without prefix length."""

    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The versions of `nginx` and of the `openssl` it runs with."""

    has_own_bucket: bool = False
    """Whether somebody else's file sets nginx's `server_names_hash_bucket_size`."""

    memory_kib: str = ""
    open_files: str = ""
    """The hard limit of a root process."""

    server_states: tuple[str, ...] = ()
    """HAProxy's `show servers state`, line by line."""

    libc: str = ""
    has_ticket_keys: bool = False
    """Whether there are session ticket keys that nginx can start with."""

    certsync_works: bool = False
    """Whether the installed certsync starts."""

    machine: str = ""
    """What tells this machine from a copy of it: see `model/identity.py`."""

    def text(self, path: str) -> str:
        """Return a file's text; empty: it does not exist, or is too large to be ours."""
        entry = self.entries.get(path)
        return entry.text or "" if entry else ""

    def has(self, path: str) -> bool:
        """Return whether the path exists; a dangling link does."""
        return path in self.entries

    def names_in(self, folder: str) -> list[str]:
        """Return the names of a folder's direct entries."""
        start = f"{folder}/"
        names = (path.removeprefix(start) for path in self.entries if path.startswith(start))
        return sorted(name for name in names if "/" not in name)

    def unit(self, name: str) -> Unit:
        """Return a unit by its name, with or without `.service`."""
        return self.units.get(name if "." in name else f"{name}.service", NO_UNIT)


def parse(lines: Sequence[str]) -> Survey:
    """Parse the script's output."""
    words = [(key, rest) for key, _, rest in (line.partition(" ") for line in lines)]
    of: dict[str, list[str]] = {}
    for key, rest in words:
        of.setdefault(key, []).append(rest)
    entries = dict(_there(of.get("there", ())))
    for archive in of.get("archive", ())[:1]:
        entries.update(_archived(archive))
    return Survey(
        facts.parse(lines),
        entries,
        frozenset(
            each.split()[0] for each in of.get("package", ()) if each.endswith(" ok installed")
        ),
        dict(_users(of.get("user", ()))),
        dict(_units(of.get("unit", ()))),
        tuple(of.get("rule", ())),
        tuple(
            (each[0], each[1].partition("/")[0])
            for line in of.get("address", ())
            if len(each := line.split()) == 2
        ),
        {
            each[0]: tuple(int(part) for part in re.findall(r"\d{1,4}", each[1])[:3])
            for line in reversed(of.get("version", ()))
            if len(each := line.split()) == 2
        },
        "bucket" in of,
        _last(of, "memory"),
        _last(of, "files"),
        tuple(of.get("state", ())),
        _last(of, "libc"),
        "tickets" in of,
        "works" in of,
        _last(of, "machine"),
    )


def _last(of: Mapping[str, Sequence[str]], key: str) -> str:
    return of[key][-1].strip() if of.get(key) else ""


def _there(lines: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    for line in lines:
        found = line.split(" ", 5)
        if len(found) == 6 and found[4].isascii() and found[4].isdigit() and len(found[4]) < 16:
            kind, mode, owner, group, size, path = found
            yield path, Entry(kind, mode, owner, group, size=int(size))


def _users(lines: Sequence[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for line in lines:
        found = line.split(":")
        if len(found) == 7:
            yield found[0], (found[5], found[6])


def _units(lines: Sequence[str]) -> Iterator[tuple[str, Unit]]:
    for line in lines:
        name, _, rest = line.partition(" ")
        values = rest.split(":")
        if len(values) == 4:
            yield name, Unit(values[0], values[1], values[2] == "yes", values[3])


KINDS = {tarfile.REGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "f"}


def _archived(text: str) -> Iterator[tuple[str, Entry]]:
    """Yield path and entry of an archive's members; stop where it is truncated or invalid."""
    try:
        content = base64.b64decode(text.strip(), validate=True)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                yield member.name.rstrip("/"), _entry(archive, member)
    except (tarfile.TarError, binascii.Error, OSError, ValueError, OverflowError, EOFError):
        return


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    text = None
    if member.isreg() and not member.issparse() and member.size <= LARGEST:
        file = archive.extractfile(member)
        text = file.read(LARGEST).decode(errors="replace") if file else None
    return Entry(
        KINDS.get(member.type, "?"),
        f"{member.mode & 0o7777:o}",
        member.uname or str(member.uid),
        member.gname or str(member.gid),
        text,
        member.linkname if member.issym() else "",
        member.size,
    )

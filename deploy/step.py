"""The steps of a deploy on a host: a survey in, steps out.

Everything here is pure. A step with an empty script has nothing to do.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from certsync.model.errors import CertsyncError
from certsync.operator.hosts.survey import Entry, Survey

Content = str | bytes | Path
"""A file's content, or its path on this machine."""


@dataclass(frozen=True)
class Change:
    """How a file's text changes, for a dry run."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Step:
    """One thing to ensure on a host."""

    name: str
    script: str = ""
    """POSIX shell, run as root with certsync/programs/functions.sh; empty: nothing to do."""

    files: Mapping[str, Content] | Callable[[], Mapping[str, Content]] = field(default_factory=dict)
    """Name in the folder `$here` to content; a function if it has to be fetched first."""

    changes: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        """The text of the file it writes; empty: it writes none."""
        content = self.files.get("file", "") if isinstance(self.files, Mapping) else ""
        return content if isinstance(content, str) else ""


Steps = Iterable[Step]


def failing(name: str, text: str) -> Step:
    """Return a step that only fails with this message."""
    return Step(name, f"printf '%s\\n' {shlex.quote(text)} >&2; exit 1")


def refused(name: str, error: CertsyncError | OSError) -> Step:
    """Return a step that only fails with an error and its hint."""
    if isinstance(error, OSError):
        # A local error: a file cannot be read or fetched here.
        return failing(name, f"error: {error}")
    return failing(name, f"error: {error.message}\nhint: {error.hint}")


def command(name: str, script: str, *, needed: bool) -> Step:
    """Return the step that runs a script if it is needed."""
    return Step(name, script if needed else "")


def file(
    seen: Survey,
    name: str,
    path: str,
    content: str | Callable[[], str],
    *,
    mode: str = "644",
    group: str = "root",
) -> Step:
    """Return the step that installs a file with this content; empty content does nothing.

    If the content cannot be rendered, the step fails and the file is unchanged.
    """
    try:
        text = content if isinstance(content, str) else content()
    except (CertsyncError, OSError) as error:
        return refused(name, error)
    entry = seen.entries.get(path)
    wanted = Entry("f", mode, "root", group, text, size=len(text.encode()))
    if not text or entry == wanted:
        return Step(name)
    script = shlex.join(["place", "file", path, mode, "root", group])
    return Step(name, script, {"file": text}, changed(seen, path, text))


def changed(seen: Survey, path: str, text: str) -> tuple[Change, ...]:
    """Return how a file's text changes; empty: it does not."""
    before = seen.text(path)
    return () if before == text else (Change(path, before, text),)


def directory(
    seen: Survey,
    name: str,
    path: str,
    *,
    mode: str = "755",
    owner: str = "root",
    group: str = "root",
) -> Step:
    """Return the step that creates a folder."""
    entry = seen.entries.get(path)
    if entry and (entry.kind, entry.mode, entry.owner, entry.group) == ("d", mode, owner, group):
        return Step(name)
    return Step(name, shlex.join(["install", "-d", "-m", mode, "-o", owner, "-g", group, path]))


def link(seen: Survey, name: str, path: str, target: str) -> Step:
    """Return the step that creates a symbolic link."""
    entry = seen.entries.get(path)
    is_so = entry is not None and (entry.kind, entry.target) == ("l", target)
    return command(name, shlex.join(["link", target, path]), needed=not is_so)


def user(seen: Survey, name: str, login: str, *, home: str, shell: str) -> Step:
    """Return the step that creates a system user."""
    is_so = seen.users.get(login) == (home, shell)
    return command(name, shlex.join(["user", login, home, shell]), needed=not is_so)


def no_user(seen: Survey, name: str, login: str) -> Step:
    """Return the step that removes a user."""
    return command(name, f"userdel {shlex.quote(login)}", needed=login in seen.users)


def absent(seen: Survey, name: str, path: str) -> Step:
    """Return the step that removes a file, a link, or a folder with its contents."""
    if not seen.has(path):
        return Step(name)
    return Step(name, f"rm -rf -- {shlex.quote(path)}", changes=changed(seen, path, ""))


def units_read(seen: Survey, units: Mapping[str, Step]) -> Step:
    """Return the step that makes systemd reload units that changed or are outdated."""
    needed = any(each.script or seen.unit(unit).is_outdated for unit, each in units.items())
    return command("systemd reload", "systemctl daemon-reload", needed=needed)


def enabled(seen: Survey, name: str, unit: str) -> Step:
    """Return the step that enables a unit at boot."""
    needed = seen.unit(unit).enabled != "enabled"
    return command(name, f"systemctl enable -q {shlex.quote(unit)}", needed=needed)


def runs(seen: Survey, name: str, unit: str) -> Step:
    """Return the step that starts a service whose files are up to date."""
    if seen.unit(unit).runs:
        return Step(name)
    change = Change(f"{unit}.service", "stopped\n", "running\n")
    return Step(name, f"running {shlex.quote(unit)}", changes=(change,))


def packages(seen: Survey, name: str, wanted: Sequence[str]) -> Step:
    """Return the step that installs Debian packages."""
    missing = [each for each in wanted if each not in seen.packages]
    return command(name, shlex.join(["packages", *missing]), needed=bool(missing))


def kept_aside(name: str, paths: Sequence[str], *, remove: bool) -> Step:
    """Return the step that keeps a dated copy of somebody else's files.

    ``remove``: and then removes them.
    """
    files = shlex.join(paths)
    script = f"put_aside {files}" + (f" && rm -f -- {files}" if remove else "")
    return command(name, script, needed=bool(paths))


def firewall(
    seen: Survey,
    rules: Sequence[str],
    *,
    name: str = "Firewall",
    instead_of: Sequence[str] = (),
    enable: bool = False,
    ssh_port: int = 0,
) -> Step:
    """Return the step that adds UFW rules, if UFW is installed.

    Other rules are not loosened or removed. ``instead_of`` are wider rules from an earlier fleet
    file, to be deleted.
    """
    status = seen.facts.ufw
    if not status:
        return Step(name)
    lines = [f"ufw {rule}" for rule in rules if rule not in seen.rules]
    lines += [f"ufw delete {rule}" for rule in instead_of if rule in seen.rules]
    if enable and status == "inactive":
        lines += [f"ufw allow {ssh_port}/tcp", "ufw --force enable"]
    return Step(name, " &&\n".join(lines))

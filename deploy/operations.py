"""Operations that pyinfra does not have: each yields nothing where nothing is to be done.

Contents are callables where they depend on what the run itself makes: pyinfra then asks for them
when the operation executes, not when the run is prepared.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from io import StringIO
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra.operations import files

from certsync import look
from certsync.errors import CertsyncError
from deploy.facts import Lines, Text
from deploy.progress import is_dry, would_write
from deploy.services import as_configured, running

Commands = Generator[Any, None, None]
CANDIDATE = "/run/certsync-candidate"
"""Where a configuration is tested before it takes the running one's place.

It is there until the reload is done: a run that was cut off between the two is finished by the
next one, though the files are then as they should be. In memory, because a reboot reads them too.
"""

MEMBERS_ARE_UP = """\
for try in $(seq 50); do
  sleep 0.2
  echo show stat | socat -t 5 - /run/haproxy/admin.sock | awk -F, '
    /^(tls[^,]*|challenge),/ && $2 != "BACKEND" && $18 ~ /^DOWN/ { down = 1 }
    END { exit down }' && break
done
exit 0"""
"""A member just admitted has to pass two checks. One that stays down is the status's to tell."""

BACKUPS = "/var/backups/certsync"
"""Where somebody else's files go that a person has said may be taken over."""

KEEP = """\
set -e
cd /
mkdir -p -m 700 {backups}
rm -rf {backups}/.unfinished
trap 'rm -rf {backups}/.unfinished' EXIT
for path in {files}; do
  for kept in {backups}/*; do
    cmp -s "$kept$path" "$path" && continue 2
  done
  mkdir -p {backups}/.unfinished
  cp -aL --parents "$path" {backups}/.unfinished/
done
if [ -e {backups}/.unfinished ]; then
  dated={backups}/$(date +%Y%m%d-%H%M%S); more=
  while [ -e "$dated$more" ]; do more=$((${{more:-0}} - 1)); done
  mv -T {backups}/.unfinished "$dated$more"
fi
"""
"""From / because `cp --parents` of coreutils 9.1 (Debian 12) makes no folder for an absolute path
anywhere else."""

APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "
    "-o Dpkg::Options::=--force-confold"
)
WAIT_FOR_CLOUD_INIT = (
    "if command -v cloud-init >/dev/null; then timeout 300 cloud-init status --wait || :; fi"
)


@operation()
def phase() -> Commands:
    """Wait until every host is here: pyinfra orders operations within a host, not between them."""
    yield from ()


def failing(text: str) -> StringCommand:
    """Return a command that does nothing but fail with these words.

    An exception would end the run for all hosts; a failed command ends it for this one.
    """
    return StringCommand(f"printf '%s\\n' {shlex.quote(text)} >&2; exit 1")


def refused(error: CertsyncError) -> StringCommand:
    """Return a command that does nothing but fail with an error and its hint."""
    return failing(f"error: {error.message}\nhint: {error.hint}")


@operation()
def packages_present(packages: Sequence[str]) -> Commands:
    """Have Debian packages installed; the package lists are only updated when one is missing."""
    query = "dpkg-query -W -f='${Package} ${Status}\\n' " + " ".join(packages)
    present = {
        line.split()[0] for line in host.get_fact(Lines, script=query) if "install ok" in line
    }
    missing = [package for package in packages if package not in present]
    if not missing:
        host.noop(f"{', '.join(packages)}: installed")
        return
    yield StringCommand(WAIT_FOR_CLOUD_INIT)
    yield StringCommand(f"{APT} update")
    yield StringCommand(f"{APT} install --no-install-recommends {' '.join(missing)}")


@operation()
def written(
    path: str, content: str | Callable[[], str], mode: str = "644", group: str = "root"
) -> Commands:
    """Have a file with this content; an empty one asks for nothing.

    Where the content cannot be made, this host fails and keeps the file that it has.
    """
    try:
        text = content if isinstance(content, str) else content()
    except CertsyncError as error:
        yield refused(error)
        return
    except OSError as error:
        # Of this machine: it cannot be read or fetched here.
        yield failing(f"error: {error}")
        return
    if not text:
        host.noop(f"{path}: nothing to write yet")
        return
    _would_write(path, text)
    yield from files.put._inner(src=StringIO(text), dest=path, mode=mode, user="root", group=group)


@operation()
def ran(command: str, unless: str) -> Commands:
    """Run a command unless another one, which only reads, exits 0."""
    if host.get_fact(Lines, script=f"{unless} >/dev/null && echo done") == ["done"]:
        host.noop(f"not needed: {command}")
        return
    yield StringCommand(command)


@operation()
def ran_when(command: str, needed: Callable[[], bool]) -> Commands:
    """Run a command if ``needed`` says so when it is this operation's turn."""
    if needed():
        yield StringCommand(command)


@operation()
def sudo_rule(path: str, rule: str) -> Commands:
    """Have a sudo rule, checked by visudo before it counts: a broken one locks everybody out."""
    if host.get_fact(Text, path=path) == rule:
        host.noop(f"{path}: as it should be")
        return
    _would_write(path, rule)
    candidate = f"{CANDIDATE}.sudo"
    yield from _upload(rule, candidate)
    yield StringCommand(
        f"chmod 440 {candidate} && chown root:root {candidate} && visudo -cqf {candidate} "
        f"&& mv {candidate} {path}"
    )


@operation()
def nginx_configured(
    wanted: Callable[[], Mapping[str, str]], sites: Mapping[str, bool], known: Collection[str] = ()
) -> Commands:
    """Have these files below /etc/nginx, tested together with all others before they count.

    ``wanted`` gives paths and texts; ``sites`` the names in sites-enabled to whether they should
    be there. One of ours that is neither among them nor ``known`` is of a lineage that the fleet
    has no more, and is switched off.
    """
    yield from _nginx_configured(wanted(), sites, known)


def _nginx_configured(
    wanted: Mapping[str, str], sites: Mapping[str, bool], known: Collection[str]
) -> Commands:
    texts = {path: host.get_fact(Text, path=f"/etc/nginx/{path}") for path in wanted}
    changed = [path for path, text in wanted.items() if texts[path] != text]
    enabled = host.get_fact(Lines, script="ls /etc/nginx/sites-enabled")
    ours = host.get_fact(
        Lines, script=f"cd /etc/nginx/sites-enabled && grep -ls '{look.MARK}' certsync-*"
    )
    left = [name for name in ours if name not in known]
    sites = {**dict.fromkeys(left, False), **sites}
    switched = [name for name, wish in sites.items() if (name in enabled) != wish]
    if not changed and not switched and not _is_unfinished(CANDIDATE):
        yield from as_configured("nginx")
        return
    yield StringCommand(f"rm -rf {CANDIDATE} && mkdir -m 700 {CANDIDATE}")
    for number, path in enumerate(changed):
        would_write(host, f"/etc/nginx/{path}", texts[path], wanted[path])
        yield from _upload(wanted[path], f"{CANDIDATE}/{number}")
    steps = ["set -e", "apply() {", ":"]
    for number, path in enumerate(changed):
        target = f"/etc/nginx/{path}"
        steps.append(f"install -D -m 644 {CANDIDATE}/{number} {target}")
    for name in switched:
        link = f"/etc/nginx/sites-enabled/{name}"
        steps.append(f"ln -s ../sites-available/{name} {link}" if sites[name] else f"rm -f {link}")
    # First on a copy laid over the real folder, in a mount namespace of this shell alone.
    steps += [
        "}",
        'if [ "$1" = try ]; then',
        f"cp -a /etc/nginx {CANDIDATE}/nginx; mount --bind {CANDIDATE}/nginx /etc/nginx",
        "fi",
        "apply",
        "nginx -t -q",
        'if [ "$1" = try ]; then exit; fi',
        running("nginx"),
    ]
    script = shlex.quote("\n".join(steps))
    yield StringCommand(f"unshare --mount sh -c {script} apply try")
    yield StringCommand(f"sh -c {script} apply real")
    yield StringCommand(f"rm -rf {CANDIDATE}")


@operation()
def haproxy_configured(
    content: Callable[[], str], *, until_up: bool = True, started: bool = True
) -> Commands:
    """Have this haproxy.cfg, tested before it counts; the reload drops no connection.

    ``until_up``: wait until its members have passed their checks. ``started``: have it run, also
    where its file is as it should be.
    """
    path = "/etc/haproxy/haproxy.cfg"
    text = content()
    unfinished = f"{CANDIDATE}.haproxy"
    if host.get_fact(Text, path=path) == text and not _is_unfinished(unfinished):
        if started:
            yield from as_configured("haproxy")
        else:
            host.noop("haproxy is configured")
        return
    _would_write(path, text)
    candidate = "/etc/haproxy/.certsync-candidate.cfg"
    yield from _upload(text, candidate)
    yield StringCommand(
        f"chmod 644 {candidate} && chown root:root {candidate} && haproxy -c -q -f {candidate} "
        f"|| {{ rm -f {candidate}; exit 1; }}"
    )
    yield StringCommand(f"touch {unfinished} && mv {candidate} {path}")
    yield StringCommand(f"{running('haproxy')}\nrm -f {unfinished}")
    if until_up:
        yield StringCommand(MEMBERS_ARE_UP)


@operation()
def put_aside(paths: Callable[[], Sequence[str]], *, remove: bool) -> Commands:
    """Keep a dated copy of files that are not ours, before they are replaced or taken out."""
    if found := paths():
        yield StringCommand(aside(found, remove=remove))


def aside(paths: Sequence[str], *, remove: bool, backups: str = BACKUPS) -> str:
    """Return the script that keeps a dated copy of each file that none is kept of.

    It may be cut off anywhere: a copy has a date once it is whole, and is not made again.
    """
    files = " ".join(shlex.quote(path) for path in paths)
    return KEEP.format(backups=shlex.quote(backups), files=files) + (
        f"rm -f -- {files}\n" if remove else ""
    )


@operation()
def firewall_allows(
    rules: Sequence[str], *, instead_of: Sequence[str] = (), enable: bool, ssh_port: int
) -> Commands:
    """Have UFW's rules, where UFW is present; nothing else that is there is loosened or removed.

    ``instead_of`` are wider rules that another wish of the fleet file has asked for before.
    """
    status = host.get_fact(Lines, script="ufw status | sed -n 's/^Status: //p'")
    if not status:
        host.noop("no UFW on this host")
        return
    added = host.get_fact(Lines, script="ufw show added")
    for rule in rules:
        if f"ufw {rule}" not in added:
            yield StringCommand(f"ufw {rule}")
    for rule in instead_of:
        if f"ufw {rule}" in added:
            yield StringCommand(f"ufw delete {rule}")
    if enable and status == ["inactive"]:
        yield StringCommand(f"ufw allow {ssh_port}/tcp && ufw --force enable")


def _would_write(path: str, text: str) -> None:
    if is_dry():
        would_write(host, path, host.get_fact(Text, path=path), text)


def _is_unfinished(mark: str) -> bool:
    return host.get_fact(Lines, script=f"test -e {mark} && echo yes") == ["yes"]


def _upload(text: str, path: str) -> Commands:
    yield FileUploadCommand(StringIO(text), path, remote_temp_filename=host.get_temp_filename(path))

"""The import rules of docs/architecture.md, kept."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = (
    "certsync/receiver.py",
    "certsync/lock.py",
    "certsync/knock.py",
    "certsync/programs/change.py",
)
"""Each is one file that runs alone on a host: it imports nothing of ours and answers by itself."""

ONLY_IN = {
    "acme": ("certsync/issuance*",),
    "josepy": ("certsync/issuance*",),
    "apprise": ("certsync/notification.py",),
    "subprocess": ("certsync/process.py", *PROGRAMS),
    "paramiko": ("certsync/undelayed.py",),
    "pyinfra": (),
    "pyinfra_cli": (),
    "certsync.cli": ("certsync/__main__.py", "certsync/cli/*"),
    "certsync.commands": ("certsync/cli/*", "certsync/commands/*"),
    "urllib.request": ("certsync/http_get.py",),
    "print": ("certsync/console.py", *PROGRAMS),
    "click.echo": ("certsync/console.py",),
    "click.secho": ("certsync/console.py",),
}
"""What is used nowhere else in the package; `*` stands for any path."""

DECISIONS = ("advice", "alerts", "certbot", "certificate", "compromise", "fleet",
             "forwarding", "gate", "generation", "manual", "metrics", "moment", "rehearsal",
             "report", "rollout", "schedule", "state", "steps", "terminal", "tickets", "tries",
             "vrrp", "watch")  # fmt: skip
HANDS = ("caa", "canary", "console", "deadline", "dns", "heartbeat", "host", "http_get",
         "issuance", "keyring", "limits",
         "notification", "overrides", "process", "proving", "pyinfra_run", "renewal_info",
         "replication", "resumption", "revocation", "store", "textfile", "webroot",
         "wheels")  # fmt: skip
CLOCKS = ("datetime.now", "datetime.datetime.now", "date.today", "time.time", "time.monotonic")


def imported(path: str) -> Iterator[tuple[str, int]]:
    """Give the dotted names that a file imports, and their lines."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)


def used(path: str) -> Iterator[tuple[str, int]]:
    """Give the dotted names that a file imports or calls, and their lines."""
    yield from imported(path)
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def within(name: str, *tops: str) -> bool:
    return any(f"{name}.".startswith(f"{top}.") for top in tops)


def files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "certsync").rglob("*.py"))


def test_each_thing_is_used_only_where_it_may_be() -> None:
    assert [
        f"{path}:{line}: {name}"
        for path in files()
        for name, line in used(path)
        for thing, places in ONLY_IN.items()
        if within(name, thing) and not any(fnmatch(path, place) for place in places)
    ] == []


def test_decisions_do_no_io_and_take_the_time_as_an_argument() -> None:
    forbidden = (*(f"certsync.{hand}" for hand in HANDS), *CLOCKS, "socket", "requests", "open")
    assert [
        f"{path}:{line}: {name}"
        for path in files()
        if path.removeprefix("certsync/").removesuffix(".py") in DECISIONS
        for name, line in used(path)
        if within(name, *forbidden)
    ] == []


def test_errors_and_programs_import_only_the_standard_library() -> None:
    assert [
        f"{path}:{line}: {name}"
        for path in ("certsync/errors.py", *PROGRAMS)
        if (ROOT / path).exists()
        for name, line in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
    ] == []

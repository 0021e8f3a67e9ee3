"""Which machine runs a module is told by its folder, and the folders keep to themselves."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

ROOMS = {
    "certsync/model": ("certsync.model", "certsync.programs"),
    "certsync/programs": (),
    "certsync/system": ("certsync.system", "certsync.model"),
    "certsync/issuer": (
        "certsync.issuer", "certsync.model", "certsync.programs", "certsync.system",
    ),
    "certsync/operator": (
        "certsync.operator", "certsync.model", "certsync.programs", "certsync.system",
    ),
    "deploy": (
        "deploy", "certsync.operator", "certsync.model", "certsync.programs", "certsync.system",
    ),
}  # fmt: skip
"""Folder to what of ours it may import."""

TOP = {"__init__.py", "__main__.py", "any_inventory.py", "inventory.py", "main.py"}
"""What stands in no room: the doors."""

PROGRAMS = "certsync/programs/*"
ONLY_IN = {
    "acme": ("certsync/issuer/ca/issuance/*",),
    "josepy": ("certsync/issuer/ca/issuance/*",),
    "apprise": ("certsync/issuer/monitoring/notification.py",),
    "requests": ("certsync/issuer/ca/issuance/*", "certsync/operator/balancer/managed/http.py"),
    "openstack": ("certsync/operator/balancer/managed/octavia.py",),
    "keystoneauth1": ("certsync/operator/balancer/managed/octavia.py",),
    "boto3": ("certsync/operator/balancer/managed/aws_api.py",),
    "botocore": ("certsync/operator/balancer/managed/aws_api.py",),
    "hcloud": ("certsync/operator/balancer/managed/hetzner*.py",),
    "subprocess": ("certsync/system/process.py", PROGRAMS),
    "jinja2": ("certsync/operator/rendering/*",),
    "pydantic": ("certsync/operator/fleet_file/*",),
    "paramiko": (),
    "pyinfra": (),
    "pyinfra_cli": (),
    "certsync.issuer.cli": ("certsync/issuer/cli/*",),
    "certsync.operator.cli": ("certsync/operator/cli/*",),
    # A verb calls no other verb: what both need stands in a room.
    "certsync.issuer.commands": ("certsync/issuer/cli/*",),
    "certsync.operator.commands": ("certsync/operator/cli/*",),
    "urllib.request": ("certsync/system/http_get.py",),
    "print": ("certsync/system/console.py", PROGRAMS),
    "click.echo": ("certsync/system/console.py",),
    "click.secho": ("certsync/system/console.py",),
}  # fmt: skip
"""What is used nowhere else in the package; `*` stands for any path."""

PURE = (
    "certsync/issuer/backoff.py", "certsync/issuer/ca/renewal_info.py",
    "certsync/issuer/compromise.py", "certsync/issuer/monitoring/alerts.py",
    "certsync/issuer/monitoring/prometheus.py", "certsync/issuer/replicas/fence.py",
    "certsync/issuer/replicas/rollout.py", "certsync/issuer/schedule.py",
    "certsync/issuer/state.py", "certsync/issuer/steps.py", "certsync/issuer/tickets/decide.py",
    "certsync/model/*", "certsync/operator/balancer/capacity.py",
    "certsync/operator/balancer/checks.py",
    "certsync/operator/balancer/foreseen.py", "certsync/operator/balancer/gate.py",
    "certsync/operator/balancer/managed/decide.py", "certsync/operator/balancer/managed/port.py",
    "certsync/operator/balancer/managed/digitalocean_*.py",
    "certsync/operator/balancer/provider_rules.py", "certsync/operator/balancer/server_states.py",
    "certsync/operator/balancer/vrrp.py", "certsync/operator/change.py",
    "certsync/operator/deployment/dependents.py", "certsync/operator/deployment/plan.py",
    "certsync/operator/deployment/succession.py", "certsync/operator/fleet_file/differences.py",
    "certsync/operator/hosts/facts.py", "certsync/operator/watching/watch.py",
    "certsync/system/terminal.py",
)  # fmt: skip
"""Values and decisions: what they need to know comes as an argument, the time too."""

CLOCKS = ("datetime.now", "datetime.datetime.now", "date.today", "time.time", "time.monotonic")
DOORS = (
    "socket", "ssl", "subprocess", "requests", "open", "tempfile", "shutil", "os.environ",
    "certsync.issuer.store",
    *(f"certsync.system.{path.stem}" for path in (ROOT / "certsync/system").glob("[a-z]*.py")
      if path.stem != "terminal"),
)  # fmt: skip


def imported(text: str) -> Iterator[tuple[str, int]]:
    """Give the dotted names that a module imports, and their lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)


def used(text: str) -> Iterator[tuple[str, int]]:
    """Give the dotted names that a module imports or calls, and their lines."""
    yield from imported(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def within(name: str, *tops: str) -> bool:
    return any(f"{name}.".startswith(f"{top}.") for top in tops)


def files(*folders: str) -> dict[str, str]:
    """Return the text of each module below these folders, by its path."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def outsiders(room: str, path: str, text: str) -> list[str]:
    """Return what a module imports of ours, and its room may not."""
    return [
        f"{path}:{line}: {name}"
        for name, line in imported(text)
        if within(name, "certsync", "deploy")
        and name not in {"certsync", "certsync.__version__"}
        and not within(name, *ROOMS[room])
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_nothing_from_behind_its_walls(room: str) -> None:
    found = [each for path, text in files(room).items() for each in outsiders(room, path, text)]
    assert found == []


@pytest.mark.parametrize(
    ("room", "planted"),
    [
        ("certsync/model", "from certsync.system import process"),
        ("certsync/model", "import certsync.issuer.store"),
        ("certsync/programs", "from certsync.model.errors import CertsyncError"),
        ("certsync/system", "from certsync.issuer.store import Store"),
        ("certsync/system", "from certsync.programs import receiver"),
        ("certsync/issuer", "from certsync.operator.balancer import gate"),
        ("certsync/issuer", "def late() -> None:\n    import deploy.step"),
        ("certsync/operator", "from certsync.issuer import schedule"),
        ("certsync/operator", "from certsync import main"),
        ("deploy", "from certsync.issuer.replicas import replication"),
        ("deploy", "if True:\n    from certsync import issuer"),
    ],
)
def test_a_wrong_import_that_is_planted_in_a_room_is_found(room: str, planted: str) -> None:
    assert len(outsiders(room, f"{room}/new.py", planted)) == 1


def test_every_module_stands_in_a_room_or_is_a_door() -> None:
    rooms = tuple(f"{room}/" for room in ROOMS)
    assert {path for path in files("certsync") if not path.startswith(rooms)} == {
        f"certsync/{name}" for name in TOP
    }


def test_each_thing_is_used_only_where_it_may_be() -> None:
    assert [
        f"{path}:{line}: {name}"
        for path, text in files("certsync").items()
        for name, line in used(text)
        for thing, places in ONLY_IN.items()
        if within(name, thing) and not any(fnmatch(path, place) for place in places)
    ] == []


def test_values_and_decisions_do_no_io_and_take_the_time_as_an_argument() -> None:
    pure = {path: text for path, text in files("certsync").items() if _is_pure(path)}
    assert len(pure) > len(PURE)
    assert [
        f"{path}:{line}: {name}"
        for path, text in pure.items()
        for name, line in used(text)
        if within(name, *DOORS, *CLOCKS)
    ] == []


def test_every_pattern_of_pure_modules_has_one() -> None:
    paths = files("certsync")
    assert [each for each in PURE if not any(fnmatch(path, each) for path in paths)] == []


def _is_pure(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in PURE)


def test_errors_and_programs_import_only_the_standard_library() -> None:
    texts = {**files("certsync/programs"), "certsync/model/errors.py": ""}
    texts["certsync/model/errors.py"] = (ROOT / "certsync/model/errors.py").read_text()
    assert [
        f"{path}:{line}: {name}"
        for path, text in texts.items()
        for name, line in imported(text)
        if name.partition(".")[0] not in sys.stdlib_module_names
    ] == []


def test_imports_run_in_no_circle() -> None:
    texts = files("certsync")
    names = {_module(path): path for path in texts}
    left = {
        (one, other)
        for one, path in names.items()
        for name, _ in imported(texts[path])
        for other in [name if name in names else name.rpartition(".")[0]]
        if other in names and other not in (one, "certsync")
    }
    while True:
        importers = {one for one, _ in left}
        further = {(one, other) for one, other in left if other in importers}
        if further == left:
            break
        left = further
    assert left == set()


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_what_tests_run_on_hosts_imports_what_is_there() -> None:
    """Programs of the tests stand in strings, where no import is seen when a module moves."""
    modules = {_module(path) for path in files("certsync")}
    line = re.compile(r"\bfrom (certsync[\w.]*) import (\w+(?:, \w+)*)|\bimport (certsync\.[\w.]+)")
    missing = []
    for path, text in files("tests/e2e", "bench", "lab").items():
        for found in line.finditer(text):
            package, names, whole = found.groups()
            wanted = [whole] if whole else [f"{package}.{name}" for name in names.split(", ")]
            missing += [
                f"{path}: {each}"
                for each in wanted
                if each not in modules | DEFINED
                and each.rpartition(".")[0] not in modules - PACKAGES
            ]
    assert missing == []


PACKAGES = {_module(path) for path in files("certsync") if path.endswith("__init__.py")} - {
    "certsync.operator.fleet_file", "certsync.issuer.ca.issuance",
}  # fmt: skip
"""Folders that hand on no names of their own, but for these."""
DEFINED = {"certsync.programs.command"}

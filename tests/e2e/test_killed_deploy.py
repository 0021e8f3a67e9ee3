"""Deploys that are killed at any moment: what is in place loads, and the same deploy finishes it.

The moments differ from commit to commit, and are the same for the same one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Lab, Machine, cgroup
from lab.machine import USER
from tests.e2e import managed
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road
from tests.e2e.test_interrupted import again, found

NAMES = {"backend-01", "backend-02"}
KILLS = range(30)
CHOICE = os.environ.get("CERTSYNC_TEST_CHOICE", "0")
SESSION = re.compile(rf"sshd(-session)?: {USER}\b")

HAPROXY = "/etc/haproxy/haproxy.cfg"
SITE = f"/etc/nginx/sites-available/certsync-{NAME}.conf"

LOADS = (
    "{ [ \"$(dpkg-query -W -f='${db:Status-Status}' nginx 2>/dev/null)\" != installed ] || "
    "nginx -t -q; } && "
    "{ [ \"$(dpkg-query -W -f='${db:Status-Status}' haproxy 2>/dev/null)\" != installed ] || "
    "haproxy -c -q -f /etc/haproxy/haproxy.cfg; }"
)
"""Succeeds where the configurations that are in place load, of what is installed."""

LEFT = (
    "ls -d /etc/certsync/archive/*/* /opt/certsync/* /etc/nginx/*/* /etc/haproxy/.[a-z]* "
    "/run/certsync-candidate* 2>/dev/null; getent passwd | grep certsync | cut -d: -f1,6,7; "
    "systemctl is-active nginx haproxy; systemctl is-enabled nginx haproxy 2>/dev/null; :"
)
"""What a first deploy leaves, by name; two fleets have keys of their own."""

Setup = tuple[str, str]
CALM = ("hsts_seconds = 0\n", "connections_per_client = 0\n")
BUSY = ("hsts_seconds = 600\n", "connections_per_client = 5000\n")
"""Two setups; from one to the other the configurations of nginx and of HAProxy change."""


def fleet_on(lab: Lab, folder: Path) -> Road:
    """Return a fleet of two backends."""
    road = Road(lab, folder)
    road.edit("[site]\n", f"[site]\n{CALM[0]}")
    road.edit("[balancing]\n", f"[balancing]\n{CALM[1]}")
    return road


def change(road: Road, before: Setup, after: Setup) -> None:
    """Change the fleet file from one setup to the other."""
    for old, new in zip(before, after, strict=True):
        road.edit(old, new)


def hosts(road: Road) -> list[Machine]:
    return [road.lab.balancer, *road.lab.backends]


def texts(road: Road) -> dict[str, dict[str, bytes]]:
    """Return the managed files of every host."""
    return {machine.name: managed.texts(machine) for machine in hosts(road)}


def timed(road: Road) -> float:
    """Deploy undisturbed, and return the seconds it takes."""
    begin = time.monotonic()
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    return time.monotonic() - begin


def shells(machine: Machine) -> dict[int, str]:
    """Return what runs below the operator's SSH sessions on a host: process and its words."""
    parents, names = {}, {}
    for process in cgroup.processes(machine.group):
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
            names[process] = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        parents[process] = int(stat.rpartition(")")[2].split()[1])

    def is_below(process: int) -> bool:
        parent = parents.get(process, 0)
        return bool(SESSION.match(names.get(parent, ""))) or (parent > 0 and is_below(parent))

    return {
        each: words for each, words in names.items() if is_below(each) and not SESSION.match(words)
    }


def busy(machine: Machine) -> list[str]:
    """Return the same without what only keeps a connection open."""
    return [words for words in shells(machine).values() if words.strip() != "cat"]


def kill_shells(machine: Machine) -> list[str]:
    """Kill all that the operator has begun on a host, and nothing else; return what it was."""
    found = shells(machine)
    for process in found:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return list(found.values())


def dpkg_is_at_work(machine: Machine) -> bool:
    """Return whether dpkg has begun what it will want to be told to go on with."""
    unpacks = any("--unpack" in words for words in shells(machine).values())
    return unpacks and any((machine.root / "var/lib/dpkg/updates").glob("[0-9]*"))


def killed(
    road: Road,
    seconds: float,
    also: Machine | None,
    when: Callable[[Machine], object] = busy,
) -> None:
    """Kill a deploy with all it has started here after so many seconds; and ``also`` over there.

    ``when``: what is waited for there before.
    """
    argv = [*road.lab.operator_argv(), sys.executable, "-m", "certsync", "deploy"]
    child = subprocess.Popen(
        [*argv, str(road.fleet_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Between two commands a host has none, so the next one is waited for. And before the
        # connections end: what is orphaned by that goes on, and is no session's.
        while also and child.poll() is None and not when(also):
            time.sleep(0.01)
        over_there = kill_shells(also) if also else []
        # It may have ended meanwhile, and what it had started with it.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        print(f"killed after {seconds:.2f} s, and on {also.name if also else 'no host'}:")
        print("\n".join(over_there))


def fate(road: Road, kind: str, number: int, length: float) -> tuple[float, Machine | None]:
    """Return when a deploy of this length is killed, and on which host its shells are, if any."""
    chance = random.Random(f"{CHOICE} {kind} {number}")
    moment, host = chance.uniform(0, length), chance.choice(hosts(road))
    return moment, host if number % 2 else None


def what_is_there_loads(road: Road) -> None:
    for machine in hosts(road):
        status, said = machine.attempt(LOADS)
        assert status == 0, f"{machine.name}: {said}"


@contextmanager
def visited(road: Road) -> Iterator[list[str]]:
    """Ask for the page again and again inside the block; yields who answered, empty for nobody."""
    answers: list[str] = []
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.2):
            answers.append(road.page())

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield answers
    finally:
        over.set()
        visitor.join()


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet in service whose first deploy was undisturbed."""
    with bring_up(Lab("killeddeploy", backends=2)) as lab:
        yield fleet_on(lab, tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def first(road: Road) -> float:
    """Return the seconds of the first deploy."""
    return timed(road)


@pytest.fixture(scope="module")
def left(road: Road, first: float) -> dict[str, str]:
    """Return what the first deploy has left on every host."""
    assert first
    return {machine.name: machine.sh(LEFT) for machine in hosts(road)}


@pytest.mark.matrix
@pytest.mark.parametrize("number", KILLS)
def test_a_first_deploy_that_was_killed_is_finished_by_the_same_command(
    bring_up: BringUp, tmp_path: Path, left: dict[str, str], first: float, number: int
) -> None:
    with bring_up(Lab("killedfirst", backends=2)) as lab:
        road = fleet_on(lab, tmp_path)
        killed(road, *fate(road, "first", number, first))
        there = texts(road)
        what_is_there_loads(road)
        again(road, "deploy")
        assert {machine.name: machine.sh(LEFT) for machine in hosts(road)} == left
        assert road.pages() == NAMES
        assert lab.ca.orders() == 1
        for name, whole in texts(road).items():
            for path, text in there[name].items():
                # HAProxy's changes during a deploy; of the distribution's own nothing is ours.
                if path == HAPROXY:
                    assert b"certsync" not in text or text.endswith(b"\n"), path
                else:
                    assert text == whole[path], path


def test_a_host_whose_dpkg_was_killed_is_finished_too(bring_up: BringUp, tmp_path: Path) -> None:
    with bring_up(Lab("killedfirst", backends=2)) as lab:
        road = fleet_on(lab, tmp_path)
        killed(road, 0, lab.machine("backend-02"), dpkg_is_at_work)
        what_is_there_loads(road)
        again(road, "deploy")
        assert road.pages() == NAMES


@dataclass(frozen=True)
class Undisturbed:
    """A deploy from one setup to the other, and what it has left of both."""

    seconds: float
    ends: dict[Setup, dict[str, str]]
    """The end state of each setup."""

    whole: dict[str, dict[str, set[bytes | None]]]
    """The texts that a managed file may have, by host and path; none: it may be absent."""


@pytest.fixture(scope="module")
def undisturbed(road: Road, first: float) -> Undisturbed:
    """Return a deploy that changes nginx's and HAProxy's configuration."""
    assert first
    calm, ends = texts(road), {CALM: found(road)}
    change(road, CALM, BUSY)
    seconds = timed(road)
    ends[BUSY], busy = found(road), texts(road)
    for name, path in ("backend-01", SITE), ("balancer", HAPROXY):
        assert busy[name][path] != calm[name][path]
    whole = {
        name: {path: {text, busy[name].get(path)} for path, text in calm[name].items()}
        for name in calm
    }
    return Undisturbed(seconds, ends, whole)


@pytest.mark.matrix
@pytest.mark.parametrize("number", KILLS)
def test_a_changing_deploy_that_was_killed_is_finished_while_people_are_served(
    road: Road, undisturbed: Undisturbed, number: int
) -> None:
    before = CALM if CALM[0] in road.fleet_file.read_text() else BUSY
    after = BUSY if before == CALM else CALM
    orders = road.lab.ca.orders()
    change(road, before, after)
    with visited(road) as answers:
        killed(road, *fate(road, "changing", number, undisturbed.seconds))
        there = texts(road)
        what_is_there_loads(road)
        assert road.pages() == NAMES
        again(road, "deploy")
    assert answers
    assert "" not in answers
    for name, paths in undisturbed.whole.items():
        half = [path for path, known in paths.items() if there[name].get(path) not in known]
        assert half == [], name
    assert found(road) == undisturbed.ends[after]
    assert road.pages() == NAMES
    assert road.lab.ca.orders() == orders

"""Commands that are killed in any of their phases, and finished by the same command again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import Lab
from tests.e2e.conftest import BringUp
from tests.e2e.road import Road

FILES = (
    "find /etc/certsync /etc/nginx /etc/haproxy /etc/cron.d /etc/sudoers.d /etc/systemd/system "
    "/usr/local /var/lib/certsync-site /var/lib/certsync-push /var/lib/certsync-receive "
    r"-xdev \( -type f -o -type l \) 2>/dev/null | sort"
)
"""What a command leaves on a host, by name: two ends of the same work have the same."""

CONTENTS = (
    r"sha256sum /etc/nginx/sites-*/* /etc/nginx/snippets/* /etc/haproxy/haproxy.cfg "
    "/etc/certsync/machines /etc/certsync/fleet.json /usr/local/lib/certsync/* "
    "/etc/certsync/archive/*/000[1-9]/* 2>/dev/null; readlink /etc/certsync/live/*; "
    "systemctl is-active nginx haproxy; getent passwd | grep certsync | cut -d: -f1,6,7; "
    # A key is made anew where it is made; that there is one, and what it may do, is compared.
    # Each promotion raises the epoch.
    "sed -e 's/AAAA[^ ]*/KEY/' -e 's/epoch [0-9]*/epoch N/' "
    "/var/lib/certsync-receive/.ssh/authorized_keys 2>/dev/null; :"
)

PHASE = re.compile(r"\d+ of \d+: ")


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a fleet of three backends in service; a fourth host is there."""
    with bring_up(Lab("cutoff", backends=4), prepared=True) as lab:
        road = Road(lab, tmp_path_factory.mktemp("cutoff"))
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        add = ("add-backend", "backend-04", lab.machine("backend-04").address)
        assert road.certsync(*add).status == 0
        assert road.certsync("remove-backend", "backend-04").status == 0
        yield road


def found(road: Road) -> dict[str, str]:
    """Return the end state of every host, and of the fleet file."""
    hosts = [road.lab.balancer, *road.lab.backends]
    seen = {machine.name: machine.sh(FILES) + machine.sh(CONTENTS) for machine in hosts}
    return {**seen, "fleet file": road.fleet_file.read_text()}


def killed_in(road: Road, phase: int, verb: str, *options: str) -> None:
    """Kill a command, and nothing that it has started, when it says that a phase begins."""
    argv = [*road.lab.operator_argv(), sys.executable, "-m", "certsync"]
    child = subprocess.Popen(
        [*argv, verb, str(road.fleet_file), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    told = []
    for line in child.stderr:
        told.append(line)
        if line.startswith(f"{phase} of "):
            child.send_signal(signal.SIGKILL)
            break
    child.stderr.close()
    assert child.wait(timeout=60) == -signal.SIGKILL, "".join(told)


def again(road: Road, verb: str, *options: str) -> None:
    """Run the same command to its end; what the killed one had started may hold it up."""
    for _ in range(30):
        ended = road.certsync(verb, *options)
        if ended.status != 75:
            break
    assert ended.status == 0, ended.everything


ADD = ("add-backend", "backend-04=203.0.113.14")
REMOVE = ("remove-backend", "backend-04")
PROMOTE, BACK = ("promote", "backend-02"), ("promote", "backend-01")
COMMANDS = {"add": ADD, "remove": REMOVE, "promote": PROMOTE}
UNDO = {"add": REMOVE, "promote": BACK}
KILLED = [
    ("add", 5), ("add", 1), ("add", 2), ("add", 3), ("add", 4), ("add", 6),
    ("remove", 1), ("remove", 2), ("remove", 3), ("remove", 4), ("remove", 5), ("remove", 6),
    ("promote", 1), ("promote", 2), ("promote", 3), ("promote", 4), ("promote", 5), ("promote", 6),
]  # fmt: skip
"""Command and phase. A plain run takes the first, where a new backend is in no pool yet; the last,
where there are two issuers; and one between."""


@pytest.fixture(scope="module")
def ends(road: Road) -> dict[str, dict[str, str]]:
    """Return the end states of undisturbed runs, by command."""
    states = {}
    for name, command in COMMANDS.items():
        assert road.certsync(*command).status == 0
        states[name] = found(road)
    assert road.certsync(*BACK).status == 0
    return states


@pytest.mark.matrix
@pytest.mark.parametrize(("command", "phase"), KILLED)
def test_the_same_command_again_ends_where_an_undisturbed_one_does(
    road: Road, ends: dict[str, dict[str, str]], command: str, phase: int
) -> None:
    orders = road.lab.ca.orders()
    if command == "remove":
        assert road.certsync(*ADD).status == 0
    killed_in(road, phase, *COMMANDS[command])
    again(road, *COMMANDS[command])
    assert found(road) == ends[command]
    names = {machine.name for machine in road.backends}
    assert road.pages(2 * len(names)) == names
    assert road.lab.ca.orders() == orders
    if command in UNDO:
        assert road.certsync(*UNDO[command]).status == 0


def test_certsync_leaves_by_the_same_command_again(road: Road) -> None:
    killed_in(road, 3, "leave")
    again(road, "leave")
    for machine in road.lab.backends:
        assert "certsync/receiver" not in found(road)[machine.name]
    assert road.pages() == {"backend-01", "backend-02", "backend-03"}
    # It can come back, too.
    again(road, "deploy")
